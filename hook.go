package braid

import (
	"context"
	"errors"

	"github.com/braid-go/braid/internal/hook"
	"github.com/braid-go/braid/internal/vfs"
)

func init() {
	hook.Retain = func(topic any) error {
		t := topic.(*Topic)
		return errors.Join(t.retain(), t.dropDrained(context.Background()))
	}
	hook.FS = func(options any, fs vfs.FS) { options.(*Options).fs = fs }
}
