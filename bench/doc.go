// Package bench measures Braid: its hot paths one at a time, beside the other ways
// in which a Go program could do the same. Everything in it is a Go benchmark; run
// it with
//
//	go test -run '^$' -bench . -count 6 ./bench
//
// and compare runs with benchstat. Ratios within one run carry over between
// machines; absolute figures do not.
package bench
