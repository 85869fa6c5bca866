package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// A limit moves the bytes of a workload, and nothing else: what no system on this machine can be faster than by much.

// callBytes is the size of one write or read of the limits.
const callBytes = 256 << 10

// limitWrite writes to a new file, without fsync.
func limitWrite(ctx context.Context, dir string, sc scale) ([]float64, error) {
	return limitBulk(ctx, dir, sc, 0)
}

// limitWriteSync writes to a new file, with an fdatasync whenever as many bytes have been written as a bulk publisher may have
// without acknowledgement.
func limitWriteSync(ctx context.Context, dir string, sc scale) ([]float64, error) {
	return limitBulk(ctx, dir, sc, window*batchRecords*recordBytes)
}

func limitBulk(_ context.Context, dir string, sc scale, syncEvery int64) (_ []float64, err error) {
	f, err := os.Create(filepath.Join(dir, "limit"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	p := noise(callBytes)
	n, unsynced := int64(0), int64(0)
	start := time.Now()
	for n < sc.Bytes && time.Since(start) < sc.Time {
		if _, err := f.Write(p); err != nil {
			return nil, err
		}
		n += callBytes
		if unsynced += callBytes; syncEvery > 0 && unsynced >= syncEvery {
			if err := fdatasync(f); err != nil {
				return nil, err
			}
			unsynced = 0
		}
	}
	if syncEvery > 0 {
		if err := fdatasync(f); err != nil {
			return nil, err
		}
	}
	return perSecond(n/recordBytes, time.Since(start)), nil
}

// noise returns bytes that are not compressible, as the values that are published are: a disk, or what stands in for one, may treat zeros better.
func noise(n int) []byte {
	p := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return p
}

// limitCopy copies memory, into a block that no cache of a processor holds.
func limitCopy(_ context.Context, _ string, sc scale) ([]float64, error) {
	src, dst := make([]byte, callBytes), make([]byte, 64<<20)
	for at := 0; at < len(dst); at += callBytes { // the operating system gives the pages
		copy(dst[at:], src)
	}
	n := int64(0)
	start := time.Now()
	for n < sc.Bytes && time.Since(start) < sc.Time {
		copy(dst[n%int64(len(dst)):], src)
		n += callBytes
	}
	return perSecond(n/recordBytes, time.Since(start)), nil
}

// limitSync returns a limit that writes n records into zero-filled space and syncs them, again and again.
func limitSync(n int) func(context.Context, string, scale) ([]float64, error) {
	return limitSyncOf(n*recordBytes, n)
}

// limitSyncOf does so with some bytes, and counts them as n.
func limitSyncOf(bytes, n int) func(context.Context, string, scale) ([]float64, error) {
	return func(_ context.Context, dir string, sc scale) (_ []float64, err error) {
		const space = 4 << 20
		f, err := os.Create(filepath.Join(dir, "limit"))
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		if _, err := f.Write(make([]byte, space)); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, err
		}
		p := noise(bytes)
		count, pos := int64(0), int64(0)
		start := time.Now()
		for time.Since(start) < sc.Time {
			if pos+int64(len(p)) > space {
				pos = 0
			}
			if _, err := f.WriteAt(p, pos); err != nil {
				return nil, err
			}
			if err := fdatasync(f); err != nil {
				return nil, err
			}
			pos += int64(len(p))
			count += int64(n)
		}
		return perSecond(count, time.Since(start)), nil
	}
}

// limitRead reads a file from the page cache: into one block of memory, and into a new one each time.
func limitRead(_ context.Context, dir string, sc scale) (_ []float64, err error) {
	f, err := os.Create(filepath.Join(dir, "limit"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(make([]byte, sc.Records*recordBytes)); err != nil {
		return nil, err
	}
	var rates []float64
	for _, owned := range []bool{false, true} {
		p := make([]byte, callBytes)
		n := int64(0)
		start := time.Now()
		for n == 0 || time.Since(start) < sc.Time/2 {
			for pos := int64(0); ; {
				if owned {
					p = make([]byte, callBytes)
				}
				m, err := f.ReadAt(p, pos)
				pos += int64(m)
				n += int64(m)
				if err == io.EOF {
					break
				} else if err != nil {
					return nil, err
				}
			}
		}
		rates = append(rates, perSecond(n/recordBytes, time.Since(start))...)
	}
	return rates, nil
}

// channelStore delivers through a Go channel, and stores nothing.
type channelStore struct{ ch chan record }

func (c channelStore) Close() error { return nil }

func (c channelStore) Send(ctx context.Context, r record) error {
	r.Value = append(make([]byte, 0, valueBytes), r.Value...)
	select {
	case c.ch <- r:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c channelStore) Deliver(ctx context.Context, ready func(), fn func(record)) error {
	ready()
	for {
		select {
		case r := <-c.ch:
			fn(r)
		case <-ctx.Done():
			return nil
		}
	}
}

func limitChannel(ctx context.Context, _ string, sc scale) ([]float64, error) {
	return delivery(ctx, channelStore{make(chan record, 1024)}, sc)
}
