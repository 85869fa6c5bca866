package main

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
)

// report is what a run has found. Its JSON is the output of -json.
type report struct {
	Go      string       `json:"go"`
	OS      string       `json:"os"`
	Arch    string       `json:"arch"`
	CPUs    int          `json:"cpus"`
	CPU     string       `json:"cpu,omitempty"`
	Disk    string       `json:"file_system,omitempty"`
	Took    string       `json:"took,omitempty"`
	Scale   scale        `json:"scale"`
	Rounds  int          `json:"rounds"`
	Record  recordSize   `json:"record_bytes"`
	Systems []systemInfo `json:"systems"`
	Rows    []*row       `json:"rows"`
}

type recordSize struct {
	Key   int `json:"key"`
	Value int `json:"value"`
}

type systemInfo struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	About   string `json:"about"`
	Checks  bool   `json:"checks"`
}

// row is a figure of all systems.
type row struct {
	ID     string    `json:"id"`
	Title  string    `json:"title"`
	Unit   unit      `json:"unit"`
	Braid  *figure   `json:"braid"`
	Peers  []*figure `json:"peers"`
	Limits []*figure `json:"limits"`

	// Ratios of medians, so that more is better for Braid; 0 where something is missing.
	BestPeer     string       `json:"best_peer,omitempty"`
	OverBestPeer float64      `json:"over_best_peer,omitempty"`
	OfLimit      float64      `json:"of_limit,omitempty"`
	Goals        []goalResult `json:"goals"`
}

// figure is what one contender has shown in a row.
type figure struct {
	Name   string    `json:"name"`
	Rounds []float64 `json:"rounds,omitempty"`
	Median float64   `json:"median,omitempty"`
	// Spread is half of the distance between the slowest round and the fastest, as a part of the median.
	Spread  float64 `json:"spread,omitempty"`
	Missing string  `json:"missing,omitempty"` // why there are no rounds, or not all
	Failed  bool    `json:"failed,omitempty"`  // there should be
}

type goalResult struct {
	Goal string `json:"goal"`
	Met  bool   `json:"met"`
}

func newReport(cfg config) *report {
	rep := &report{
		Go:     runtime.Version(),
		OS:     runtime.GOOS,
		Arch:   runtime.GOARCH,
		CPUs:   runtime.GOMAXPROCS(0),
		CPU:    processor(),
		Disk:   fileSystem(cfg.Dir),
		Scale:  cfg.Scale,
		Rounds: cfg.Rounds,
		Record: recordSize{keyBytes, valueBytes},
	}
	for _, s := range systems() {
		rep.Systems = append(rep.Systems, systemInfo{s.Name, moduleVersion(s.Name), s.About, s.Checks})
	}
	for i := range cfg.Workloads {
		w := &cfg.Workloads[i]
		for _, spec := range w.Rows {
			r := &row{ID: spec.ID, Title: spec.Title, Unit: spec.Unit, Goals: []goalResult{}}
			for _, c := range w.contenders() {
				f := &figure{Name: c.Name}
				switch c.Role {
				case isBraid:
					r.Braid = f
				case isPeer:
					r.Peers = append(r.Peers, f)
				case isLimit:
					r.Limits = append(r.Limits, f)
				}
			}
			if len(r.Peers) == 0 {
				for _, s := range systems()[1:] {
					r.Peers = append(r.Peers, &figure{Name: s.Name, Missing: errCannot.Error()})
				}
			}
			rep.Rows = append(rep.Rows, r)
		}
	}
	return rep
}

// moduleVersion returns the version of a system's module, "" where it is not known.
func moduleVersion(system string) string {
	module := map[string]string{
		"nats":   "github.com/nats-io/nats-server/v2",
		"pebble": "github.com/cockroachdb/pebble/v2",
		"bbolt":  "go.etcd.io/bbolt",
		"wal":    "github.com/tidwall/wal",
	}[system]
	info, ok := debug.ReadBuildInfo()
	if !ok || module == "" {
		return ""
	}
	for _, dep := range info.Deps {
		if dep.Path == module {
			return dep.Version
		}
	}
	return ""
}

func (rep *report) row(id string) *row {
	for _, r := range rep.Rows {
		if r.ID == id {
			return r
		}
	}
	return nil
}

// figures returns all figures of a row: Braid's, the peers', the limits'.
func (r *row) figures() []*figure {
	return slices.Concat([]*figure{r.Braid}, r.Peers, r.Limits)
}

// add adds what a contender has shown in one round.
func (rep *report) add(w *workload, c contender, values []float64, err error) {
	for i, spec := range w.Rows {
		for _, f := range rep.row(spec.ID).figures() {
			if f.Name != c.Name {
				continue
			}
			switch {
			case err == nil:
				if i < len(values) {
					f.Rounds = append(f.Rounds, values[i])
				}
			case errors.Is(err, errCannot):
				f.Missing = err.Error()
			default:
				f.Missing, f.Failed = err.Error(), true
			}
		}
	}
}

// failures returns what has gone wrong, in words.
func (rep *report) failures() []string {
	var all []string
	for _, r := range rep.Rows {
		for _, f := range r.figures() {
			if f.Failed {
				all = append(all, fmt.Sprintf("%s, %s: %s", r.ID, f.Name, f.Missing))
			}
		}
	}
	return all
}

// finish computes medians, ratios and whether the goals are met.
func (rep *report) finish(all []workload) {
	for _, r := range rep.Rows {
		for _, f := range r.figures() {
			f.Median, f.Spread = summarize(f.Rounds)
		}
		if best := r.bestPeer(); best != nil {
			r.BestPeer = best.Name
			r.OverBestPeer = r.Unit.ratio(r.Braid.Median, best.Median)
		}
		if len(r.Limits) > 0 {
			r.OfLimit = r.Unit.ratio(r.Braid.Median, r.Limits[0].Median)
		}
	}
	for i := range all {
		for _, spec := range all[i].Rows {
			r := rep.row(spec.ID)
			for _, g := range spec.Goals {
				if met, known := g.met(r, rep); known {
					r.Goals = append(r.Goals, goalResult{g.text, met})
				}
			}
		}
	}
}

// bestPeer returns the peer with the best median, nil if none has one.
func (r *row) bestPeer() *figure { return r.best(func(*figure) bool { return true }) }

// best returns the best of the peers that are asked for.
func (r *row) best(of func(*figure) bool) (best *figure) {
	for _, f := range r.Peers {
		if of(f) && f.Median > 0 && (best == nil || r.Unit.ratio(f.Median, best.Median) > 1) {
			best = f
		}
	}
	return best
}

// summarize returns the median and the spread of the rounds, 0 and 0 of none.
func summarize(rounds []float64) (median, spread float64) {
	if len(rounds) == 0 {
		return 0, 0
	}
	sorted := slices.Sorted(slices.Values(rounds))
	mid := len(sorted) / 2
	median = sorted[mid]
	if len(sorted)%2 == 0 {
		median = (sorted[mid-1] + sorted[mid]) / 2
	}
	if median > 0 {
		spread = (sorted[len(sorted)-1] - sorted[0]) / 2 / median
	}
	return median, spread
}

// unit is what a figure is measured in.
type unit string

const (
	recordsPerSecond      unit = "records/s"
	transactionsPerSecond unit = "transactions/s"
	microseconds          unit = "µs"
	megabytes             unit = "MB"
	mebibytes             unit = "MiB"
	bytesEach             unit = "B"
)

// rate tells whether more is better.
func (u unit) rate() bool { return u == recordsPerSecond || u == transactionsPerSecond }

// ratio returns how much better a is than b, 0 if either is missing.
func (u unit) ratio(a, b float64) float64 {
	if a <= 0 || b <= 0 {
		return 0
	}
	if u.rate() {
		return a / b
	}
	return b / a // less is better
}
