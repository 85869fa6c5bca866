package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// ratios returns a check that measures one ratio after the other, and how often it was measured.
func ratios(all ...float64) (check, *int) {
	n := new(int)
	return check{"a thing", "of another", 2, func(context.Context, string) (float64, error) {
		*n++
		return all[*n-1], nil
	}}, n
}

func TestACheckFailsOnlyWhenItIsBeyondItsBoundEveryTime(t *testing.T) {
	for _, tt := range []struct {
		ratios []float64
		times  int
		slow   bool
	}{
		{[]float64{2}, 1, false},
		{[]float64{3, 2, 0}, 2, false},
		{[]float64{3, 2.1, 1.9}, 3, false},
		{[]float64{3, 2.1, 2.5}, 3, true},
	} {
		c, n := ratios(tt.ratios...)
		dir := t.TempDir()
		var out strings.Builder
		err := run(t.Context(), dir, []check{c}, &out)
		if errors.Is(err, errWorse) != tt.slow || *n != tt.times {
			t.Errorf("%v: %v after %d measurements, want slow: %v after %d", tt.ratios, err, *n, tt.slow, tt.times)
		}
		if strings.Contains(out.String(), "WORSE") != tt.slow {
			t.Errorf("%v: said %q", tt.ratios, out.String())
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func TestASlowCheckDoesNotHideBehindAFastOne(t *testing.T) {
	slow, _ := ratios(3, 3, 3)
	fast, _ := ratios(1)
	if err := run(t.Context(), t.TempDir(), []check{slow, fast}, io.Discard); !errors.Is(err, errWorse) {
		t.Errorf("%v, want errWorse", err)
	}
}

func TestWhatCannotBeMeasuredFails(t *testing.T) {
	broken := errors.New("broken")
	c := check{measure: func(context.Context, string) (float64, error) { return 0, broken }}
	if err := run(t.Context(), t.TempDir(), []check{c}, io.Discard); !errors.Is(err, broken) {
		t.Errorf("%v, want that it is broken", err)
	}
}
