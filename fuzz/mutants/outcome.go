package main

import (
	"slices"
	"strings"
	"time"
)

// outcome is what running tests has come to.
type outcome struct {
	passed   bool
	killed   bool // they had not even ended when they were told that their time was over
	timedOut bool
	took     time.Duration
	began    []string // tests, without those inside them
	ended    map[string]string
	text     string
}

// read takes what a test binary prints with -test.v.
func (o *outcome) read(text string) {
	o.text, o.ended = text, map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if name, ok := strings.CutPrefix(line, "=== RUN   "); ok && !strings.Contains(name, "/") {
			o.began = append(o.began, name)
		}
		if strings.HasPrefix(line, "panic: test timed out after ") {
			o.timedOut = true
		}
		for _, how := range []string{"PASS", "FAIL", "SKIP"} {
			if rest, ok := strings.CutPrefix(line, "--- "+how+": "); ok {
				name, _, _ := strings.Cut(rest, " ")
				o.ended[name] = how
			}
		}
	}
}

// notPassed returns which of these have not: those that were skipped too, since they prove nothing.
func (o *outcome) notPassed(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return o.passed && o.ended[name] == "PASS" })
}

// noticed returns the tests that failed, or, where the whole process has ended, those that were under way.
func (o *outcome) noticed() []string {
	var failed, open []string
	for _, name := range o.began {
		switch o.ended[name] {
		case "FAIL":
			failed = append(failed, name)
		case "":
			open = append(open, name)
		}
	}
	switch {
	case o.timedOut || o.killed || len(failed) == 0 && len(open) > 0:
		return open
	case len(failed) == 0: // all of them well, and yet it has failed: what stands around the tests has
		return o.began
	}
	return failed
}

// note says how it was noticed, if no test simply failed.
func (o *outcome) note() string {
	switch {
	case o.timedOut || o.killed:
		return "did not end"
	case !slices.Contains(o.endings(), "FAIL"):
		return "the process ended"
	case strings.Contains(o.text, "\npanic: ") || strings.HasPrefix(o.text, "panic: "):
		return "panic"
	}
	return ""
}

func (o *outcome) endings() []string {
	var out []string
	for _, how := range o.ended {
		out = append(out, how)
	}
	return out
}

// end is what people want to see of the output: its beginning, if it is long.
func (o *outcome) end() string {
	const most = 8 << 10
	var b strings.Builder
	for line := range strings.Lines(o.text) {
		if strings.HasPrefix(strings.TrimSpace(line), "=== ") {
			continue
		}
		if b.Len()+len(line) > most {
			b.WriteString("...\n")
			break
		}
		b.WriteString(line)
	}
	return b.String()
}
