package braid

import (
	"context"
	"errors"

	"github.com/braid-go/braid/internal/hook"
)

func init() {
	hook.Retain = func(topic any) error {
		t := topic.(*Topic)
		return errors.Join(t.retain(), t.dropDrained(context.Background()))
	}
}
