package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// programSize builds the two small programs of bench/peers, one with Braid and one without, and returns how much larger the first is. Both are built for
// one platform whatever this one is, so that the ratio depends on nothing but the source and the version of Go, which makes both larger or smaller.
func programSize(ctx context.Context, dir string) (float64, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/braid-go/braid").Output()
	if err != nil {
		return 0, fmt.Errorf("find the source: %w", err)
	}
	var bytes [2]float64
	for i, name := range []string{"braid", "none"} {
		program := filepath.Join(dir, name)
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "./size/"+name)
		build.Dir = filepath.Join(strings.TrimSpace(string(root)), "bench", "peers")
		build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build %s: %w: %s", name, err, out)
		}
		info, err := os.Stat(program)
		if err != nil {
			return 0, err
		}
		bytes[i] = float64(info.Size())
	}
	return bytes[0] / bytes[1], nil
}
