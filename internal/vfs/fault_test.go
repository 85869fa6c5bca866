package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// everyOperation does each kind of operation once, in an order that works, and
// goes on after a failure. It returns the error of each kind.
func everyOperation(fsys FS) map[OpKind]error {
	errs := map[OpKind]error{}
	f, err := fsys.Create("/a")
	errs[OpCreate] = err
	if err == nil {
		_, errs[OpWrite] = f.WriteAt([]byte("content"), 0)
		_, errs[OpRead] = f.ReadAt(make([]byte, 3), 1)
		_, errs[OpSize] = f.Size()
		errs[OpTruncate] = f.Truncate(5)
		errs[OpSync] = f.Sync()
		errs[OpDatasync] = f.Datasync()
		errs[OpReserve] = f.Reserve(5, 100)
		errs[OpClose] = f.Close()
	}
	for kind, open := range map[OpKind]func(string) (File, error){OpOpen: fsys.Open, OpOpenReadWrite: fsys.OpenReadWrite} {
		f, err := open("/a")
		if errs[kind] = err; err == nil {
			errs[OpClose] = errors.Join(errs[OpClose], f.Close())
		}
	}
	errs[OpRename] = fsys.Rename("/a", "/b")
	errs[OpMkdir] = fsys.Mkdir("/d")
	_, errs[OpList] = fsys.List("/")
	_, errs[OpStat] = fsys.Stat("/")
	errs[OpSyncDir] = fsys.SyncDir("/")
	errs[OpRemove] = fsys.Remove("/d")
	return errs
}

func TestEachKindOfOperationCanBeFailedAlone(t *testing.T) {
	for kind := OpCreate; kind <= OpReserve; kind++ {
		t.Run(kind.String(), func(t *testing.T) {
			trigger := FailAt(1, syscall.EIO, OpIs(kind))
			errs := everyOperation(NewFault(NewMem(), trigger))
			if !trigger.Fired() {
				t.Fatal("no operation of this kind passed the injector")
			}
			wantErr(t, kind.String(), errs[kind], syscall.EIO)
			for other, err := range errs {
				if other != kind && errors.Is(err, syscall.EIO) {
					t.Errorf("%v failed, too: %v", other, err)
				}
			}
		})
	}
	if got := OpKind(200).String() + OpKind(0).String(); got != "unknownunknown" {
		t.Errorf("kinds that do not exist: %q", got)
	}
}

func TestAnOperationFailsBeforeOrAfterItTakesEffect(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("after=%v", after), func(t *testing.T) {
			fail := func(m *Mem, kind OpKind) *Fault {
				trigger := FailAt(1, syscall.EIO, OpIs(kind))
				if after {
					trigger.After()
				}
				return NewFault(m, trigger)
			}
			m := NewMem()
			_, err := fail(m, OpCreate).Create("/a")
			wantErr(t, "Create", err, syscall.EIO)
			if exists := len(names(t, m, "/")) == 1; exists != after {
				t.Errorf("the file exists: %v", exists)
			}

			m = NewMem()
			synced(t, m, "/a", "old")
			wantErr(t, "Rename", fail(m, OpRename).Rename("/a", "/b"), syscall.EIO)
			if renamed := names(t, m, "/")[0] == "b"; renamed != after {
				t.Errorf("the file is renamed: %v", renamed)
			}

			m = NewMem()
			must(t, m.Mkdir("/d"))
			wantErr(t, "SyncDir", fail(m, OpSyncDir).SyncDir("/"), syscall.EIO)
			if durable := len(names(t, m.CrashClone(CrashOptions{}), "/")) == 1; durable != after {
				t.Errorf("the directory is durable: %v", durable)
			}

			m = NewMem()
			synced(t, m, "/a", "old")
			f, err := fail(m, OpSync).OpenReadWrite("/a")
			must(t, err)
			defer f.Close()
			write(t, f, "new", 0)
			wantErr(t, "Sync", f.Sync(), syscall.EIO)
			want := map[bool]string{false: "old", true: "new"}[after]
			if got := contentOf(t, m.CrashClone(CrashOptions{}), "/a"); got != want {
				t.Errorf("on disk: %q, want %q", got, want)
			}
		})
	}
}

func TestACreateThatFailsAfterItHappenedLeavesNoHandle(t *testing.T) {
	m := NewMem()
	_, err := NewFault(m, FailAt(1, syscall.EIO, OpIs(OpCreate)).After()).Create("/a")
	wantErr(t, "Create", err, syscall.EIO)
	n, err := m.lookup("/a")
	must(t, err)
	if handles := n.(*memFile).handles; handles != 0 {
		t.Errorf("%d handles are open", handles)
	}
}

func TestAWriteMovesAsManyBytesAsTheInjectorSays(t *testing.T) {
	for bytes, want := range map[int]string{-1: "", 0: "", 3: "abc", 6: "abcdef", 9: "abcdef"} {
		m := NewMem()
		fault := NewFault(m, FailAt(1, syscall.ENOSPC, OpIs(OpWrite)).Short(bytes))
		f := create(t, fault, "/a", "")
		n, err := f.WriteAt([]byte("abcdef"), 0)
		wantErr(t, "WriteAt", err, syscall.ENOSPC)
		if got := contentOf(t, m, "/a"); n != len(want) || got != want {
			t.Errorf("Short(%d): %d bytes, %q", bytes, n, got)
		}
	}
}

func TestAFailedCloseClosesTheFile(t *testing.T) {
	m := NewMem()
	f := create(t, NewFault(m, FailAt(1, syscall.EIO, OpIs(OpClose))), "/a", "")
	wantErr(t, "Close", f.Close(), syscall.EIO)
	wantErr(t, "Sync", f.Sync(), fs.ErrClosed)
}

func TestAnInjectorSeesWhatEachOperationAsksFor(t *testing.T) {
	var seen []Op
	fault := NewFault(NewMem(), InjectorFunc(func(op Op) Outcome {
		seen = append(seen, op)
		return Outcome{}
	}))
	f := create(t, fault, "/a", "abc")
	_, err := f.ReadAt(make([]byte, 2), 1)
	must(t, err)
	must(t, f.Reserve(3, 9))
	must(t, f.Truncate(2))
	must(t, fault.Rename("/a", "/b"))
	want := []Op{
		{Kind: OpCreate, Name: "/a"},
		{Kind: OpWrite, Name: "/a", Length: 3},
		{Kind: OpRead, Name: "/a", Offset: 1, Length: 2},
		{Kind: OpReserve, Name: "/a", Offset: 3, Length: 9},
		{Kind: OpTruncate, Name: "/a", Offset: 2},
		{Kind: OpRename, Name: "/a", NewName: "/b"},
	}
	if !slices.Equal(seen, want) {
		t.Errorf("got %+v", seen)
	}
}

func TestTriggersFailOneOperationOrAllFromOneOn(t *testing.T) {
	for _, c := range []struct {
		trigger *Trigger
		want    string
	}{
		{FailAt(3, syscall.EIO, nil), "..x.."},
		{FailAt(0, syscall.EIO, nil), "....."},
		{FailFrom(3, syscall.EIO, nil), "..xxx"},
		{FailFrom(0, syscall.EIO, nil), "xxxxx"},
		{FailFrom(1, syscall.EIO, OpIs(OpRead)), "....."},
	} {
		got := ""
		for range 5 {
			mark := "."
			if c.trigger.Inject(Op{Kind: OpStat}).Err != nil {
				mark = "x"
			}
			got += mark
		}
		if got != c.want || c.trigger.Fired() != strings.Contains(c.want, "x") {
			t.Errorf("%+v: got %s, want %s", c.trigger, got, c.want)
		}
	}
}

func TestOneOfTakesTheFirstFailure(t *testing.T) {
	first, second := FailAt(2, syscall.EIO, nil), FailFrom(1, syscall.ENOSPC, nil)
	inj := OneOf(first, second)
	for i, want := range []error{syscall.ENOSPC, syscall.EIO, syscall.ENOSPC} {
		if got := inj.Inject(Op{}).Err; got != want {
			t.Errorf("operation %d: %v, want %v", i, got, want)
		}
	}
	if first.Count() != 3 || second.Count() != 2 {
		t.Errorf("counts %d and %d", first.Count(), second.Count())
	}
}

func TestATriggerFiresOnceUnderConcurrency(t *testing.T) {
	trigger := FailAt(500, syscall.EIO, nil)
	fault := NewFault(NewMem(), trigger)
	var mu sync.Mutex
	failures := 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if _, err := fault.Stat("/"); err != nil {
					mu.Lock()
					failures++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if failures != 1 || trigger.Count() != 800 {
		t.Errorf("%d failures of %d operations", failures, trigger.Count())
	}
}

func TestABlockedInjectorHoldsUpOnlyItsOwnOperation(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	fault := NewFault(NewMem(), InjectorFunc(func(op Op) Outcome {
		if op.Kind == OpSync {
			close(entered)
			<-release
		}
		return Outcome{}
	}))
	f := create(t, fault, "/a", "slow")
	done := make(chan error)
	go func() { done <- f.Sync() }()
	<-entered
	if got := contentOf(t, fault, "/a"); got != "slow" {
		t.Errorf("got %q", got)
	}
	close(release)
	must(t, <-done)
}

// replaceFile is the work whose faults and crashes the next tests enumerate.
func replaceFile(fsys FS) error { return WriteFileAtomic(fsys, "/m", []byte("new")) }

// oldFile returns a file system with a durable file, and with what an earlier
// crash may have left behind.
func oldFile(t *testing.T) *Mem {
	t.Helper()
	m := NewMem()
	synced(t, m, "/m", "old")
	synced(t, m, "/m"+TempSuffix, "junk of an earlier crash")
	return m
}

func TestWriteFileAtomicReplacesAFile(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS, root string) {
		for _, data := range []string{"first", "", "a longer one"} {
			must(t, WriteFileAtomic(fsys, root+"/m", []byte(data)))
			if got := contentOf(t, fsys, root+"/m"); got != data {
				t.Errorf("got %q, want %q", got, data)
			}
		}
		wantNames(t, fsys, root, "m")
	})
	m := oldFile(t)
	must(t, replaceFile(m))
	if got := contentOf(t, m.CrashClone(CrashOptions{}), "/m"); got != "new" {
		t.Errorf("on disk: %q", got)
	}
	wantNames(t, m.CrashClone(CrashOptions{}), "/", "m")
}

func TestWriteFileAtomicLeavesOldOrNewWhereverItFails(t *testing.T) {
	for _, configure := range []func(*Trigger) *Trigger{
		func(trigger *Trigger) *Trigger { return trigger },
		(*Trigger).After,
		(*Trigger).Dropping,
		func(trigger *Trigger) *Trigger { return trigger.Short(1) },
	} {
		for k := int64(1); ; k++ {
			m := oldFile(t)
			trigger := configure(FailAt(k, syscall.EIO, nil))
			err := replaceFile(NewFault(m, trigger))
			if !trigger.Fired() {
				must(t, err)
				if k < 8 {
					t.Fatalf("only %d operations", k-1)
				}
				break
			}
			wantErr(t, fmt.Sprint("operation ", k), err, syscall.EIO)
			if k > 1 && len(names(t, m, "/")) != 1 { // the first one removes the junk
				t.Errorf("operation %d: left behind %q", k, names(t, m, "/"))
			}
			if got := contentOf(t, m, "/m"); got != "old" && got != "new" {
				t.Errorf("operation %d: %q", k, got)
			}
			eachSeed(t, 30, func(rnd *rand.Rand) error {
				if got := contentOf(t, m.CrashClone(RandomCrash(rnd)), "/m"); got != "old" && got != "new" {
					return fmt.Errorf("operation %d, then a crash: %q", k, got)
				}
				return nil
			})
		}
	}
}

func TestWriteFileAtomicLeavesOldOrNewWhereverACrashCutsIt(t *testing.T) {
	seen := map[string]bool{}
	eachSeed(t, 100, func(rnd *rand.Rand) error {
		m := oldFile(t)
		var clones []*Mem
		fault := NewFault(m, InjectorFunc(func(Op) Outcome {
			clones = append(clones, m.CrashClone(RandomCrash(rnd)))
			return Outcome{}
		}))
		must(t, replaceFile(fault))
		for i, clone := range clones {
			got := contentOf(t, clone, "/m")
			if got != "old" && got != "new" {
				return fmt.Errorf("crash before operation %d: %q", i+1, got)
			}
			seen[got] = true
			must(t, replaceFile(clone)) // whatever is left is in nobody's way
		}
		return nil
	})
	if len(seen) != 2 {
		t.Errorf("seen only %v", seen)
	}
}
