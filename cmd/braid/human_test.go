package main

import (
	"math"
	"testing"
	"time"

	"github.com/braid-go/braid"
)

func TestNumbersForPeople(t *testing.T) {
	for _, tc := range []struct{ got, want string }{
		{thousands(0), "0"}, {thousands(999), "999"}, {thousands(1000), "1,000"}, {thousands(-1234567), "-1,234,567"}, {thousands(-100), "-100"},
		{count(1, "record"), "1 record"}, {count(0, "record"), "0 records"}, {count(int64(12345), "file"), "12,345 files"},
		{bytesOf(1023), "1023 B"}, {bytesOf(1024), "1.0 KiB"}, {bytesOf(1 << 20), "1.0 MiB"}, {bytesOf(math.MaxInt64), "8388608.0 TiB"},
		{short(0), "0 ns"}, {short(999), "999 ns"}, {short(1000), "1 µs"}, {short(1234 * time.Microsecond), "1.23 ms"}, {short(9996 * time.Microsecond), "10 ms"},
		{short(999_600 * time.Microsecond), "1 s"}, {short(12345 * time.Millisecond), "12.3 s"}, {short(125 * time.Second), "2m5s"},
		{period(168 * time.Hour), "7d"}, {period(90 * time.Minute), "1h30m"}, {period(time.Hour), "1h"}, {period(10 * time.Minute), "10m"},
		{period(100 * time.Minute), "1h40m"}, {period(90 * time.Second), "1m30s"}, {period(1500 * time.Millisecond), "1.5s"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q", tc.got, tc.want)
		}
	}
}

func TestAgesAndSizesAreRead(t *testing.T) {
	for text, want := range map[string]age{"90m": age(90 * time.Minute), "7d": age(168 * time.Hour), "forever": braid.Unlimited, "1.5h": age(90 * time.Minute)} {
		var a age
		if err := a.UnmarshalText([]byte(text)); err != nil || a != want {
			t.Errorf("%s: %v, %v", text, a, err)
		}
	}
	for text, want := range map[string]size{"1": 1, "1000000": 1_000_000, "64KiB": 64 << 10, "2 MiB": 2 << 20, "3GiB": 3 << 30, "1TiB": 1 << 40, "unlimited": braid.Unlimited} {
		var v size
		if err := v.UnmarshalText([]byte(text)); err != nil || v != want {
			t.Errorf("%s: %v, %v", text, v, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "d", "-3d", "1.5d", "999999999d", "9223372036854775807TiB", "KiB", "1KB", "x"} {
		var a age
		if err := a.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("age %q: %v", text, a)
		}
		var v size
		if err := v.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("size %q: %v", text, v)
		}
	}
}
