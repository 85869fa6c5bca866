package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/braid-go/braid"
)

// thousands prints a number with separators.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// count prints a number with its noun.
func count[T int | int64](n T, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return thousands(int64(n)) + " " + noun + "s"
}

// bytesOf prints a size.
func bytesOf(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, prefix := float64(n), -1
	for f >= unit && prefix < 3 {
		f /= unit
		prefix++
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGT"[prefix])
}

// short prints a duration with three digits or so.
func short(d time.Duration) string {
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	for _, u := range []struct {
		size time.Duration
		name string
	}{{time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "µs"}} {
		if f := float64(d) / float64(u.size); f >= 0.9995 { // what would round to 1,000 of the next one counts as 1 of this
			return strconv.FormatFloat(f, 'g', 3, 64) + " " + u.name
		}
	}
	return fmt.Sprintf("%d ns", d)
}

const day = 24 * time.Hour

// period prints how long something is kept.
func period(d time.Duration) string {
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// retention prints a topic's retention.
func retention(c braid.TopicConfig) string {
	var limits []string
	if c.RetentionAge != braid.Unlimited {
		limits = append(limits, period(c.RetentionAge))
	}
	if c.RetentionBytes != braid.Unlimited {
		limits = append(limits, bytesOf(c.RetentionBytes))
	}
	if len(limits) == 0 {
		return "for ever"
	}
	return strings.Join(limits, " or ")
}

// age is a flag: a duration, days included, or "forever".
type age time.Duration

// UnmarshalText reads a flag's value.
func (a *age) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "forever" {
		*a = braid.Unlimited
		return nil
	}
	d, err := parsePeriod(s)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is not a period such as 90m, 12h or 7d, nor forever", s)
	}
	*a = age(d)
	return nil
}

var errPeriod = errors.New("too long a period")

// parsePeriod reads a duration; whole days may be given as 7d.
func parsePeriod(s string) (time.Duration, error) {
	days, ok := strings.CutSuffix(s, "d")
	if !ok {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseInt(days, 10, 64)
	if err == nil && (n > int64(math.MaxInt64/day) || n < 0) {
		err = errPeriod
	}
	return time.Duration(n) * day, err
}

// size is a flag: bytes, with KiB, MiB, GiB or TiB, or "unlimited".
type size int64

// UnmarshalText reads a flag's value.
func (v *size) UnmarshalText(b []byte) error {
	s := string(b)
	if s == "unlimited" {
		*v = braid.Unlimited
		return nil
	}
	number, unit := s, int64(1)
	for i, suffix := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if cut, ok := strings.CutSuffix(s, suffix); ok {
			number, unit = strings.TrimSpace(cut), 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64/unit {
		return fmt.Errorf("%q is not a size such as 1000000 or 64MiB, nor unlimited", s)
	}
	*v = size(n * unit)
	return nil
}

// unescape replaces \n, \t and \\ as the shell leaves them.
var unescape = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t").Replace

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// table prints columns that fill separates by tabs.
func table(w io.Writer, fill func(io.Writer)) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fill(t)
	return t.Flush()
}
