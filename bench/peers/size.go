package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// sizes returns contenders that build a small program with a system (the directories below size) and one without, and
// return the difference in megabytes (1e6 bytes). They take the source from the current directory.
func sizes() []contender {
	without := int64(0) // built once
	var all []contender
	for i, s := range systems() {
		c := contender{Name: s.Name, Role: isPeer, Run: func(ctx context.Context, dir string, _ scale) ([]float64, error) {
			return addedSize(ctx, dir, &without, strings.ToLower(s.Name))
		}}
		if i == 0 {
			c.Role = isBraid
		}
		all = append(all, c)
	}
	return all
}

func addedSize(ctx context.Context, dir string, without *int64, name string) (_ []float64, err error) {
	if *without == 0 {
		if *without, err = builtSize(ctx, dir, "none"); err != nil {
			return nil, err
		}
	}
	with, err := builtSize(ctx, dir, name)
	if err != nil {
		return nil, err
	}
	return []float64{float64(with-*without) / 1e6}, nil
}

func builtSize(ctx context.Context, dir, name string) (int64, error) {
	binary := filepath.Join(dir, name)
	out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./size/"+name).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("go build ./size/%s (run this in bench/peers): %w: %s", name, err, out)
	}
	info, err := os.Stat(binary)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
