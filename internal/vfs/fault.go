package vfs

import (
	"errors"
	"io/fs"
	"os"
)

// Fault is a file system that passes everything on to another one and lets an
// Injector fail, tear or delay any operation. Injected errors are wrapped as
// those of a real file system are: *fs.PathError, *os.LinkError from Rename.
type Fault struct {
	inner FS
	inj   Injector
}

var _ FS = (*Fault)(nil)

// NewFault returns a file system over inner that asks inj before each operation.
// A nil inj lets everything pass.
func NewFault(inner FS, inj Injector) *Fault {
	if inj == nil {
		inj = OneOf()
	}
	return &Fault{inner: inner, inj: inj}
}

// do carries out an operation as the injector has it.
func (f *Fault) do(op Op, run func() error) error {
	out := f.inj.Inject(op)
	if out.Err == nil {
		return run()
	}
	if out.Effect == EffectWhole {
		if err := run(); err != nil {
			return err
		}
	}
	return injected(op, out.Err)
}

func injected(op Op, err error) error {
	if op.Kind == OpRename {
		return &os.LinkError{Op: op.Kind.String(), Old: op.Name, New: op.NewName, Err: err}
	}
	return pathError(op.Kind.String(), op.Name, err)
}

// Create implements FS.
func (f *Fault) Create(name string) (File, error) { return f.open(OpCreate, name, f.inner.Create) }

// Open implements FS.
func (f *Fault) Open(name string) (File, error) { return f.open(OpOpen, name, f.inner.Open) }

// OpenReadWrite implements FS.
func (f *Fault) OpenReadWrite(name string) (File, error) {
	return f.open(OpOpenReadWrite, name, f.inner.OpenReadWrite)
}

func (f *Fault) open(kind OpKind, name string, open func(string) (File, error)) (File, error) {
	var inner File
	err := f.do(Op{Kind: kind, Name: name}, func() (err error) {
		inner, err = open(name)
		return err
	})
	if err == nil {
		return &faultFile{fault: f, inner: inner, name: name}, nil
	}
	if inner != nil { // It was opened and then failed: nobody else will close it.
		err = errors.Join(err, inner.Close())
	}
	return nil, err
}

// Remove implements FS.
func (f *Fault) Remove(name string) error {
	return f.do(Op{Kind: OpRemove, Name: name}, func() error { return f.inner.Remove(name) })
}

// Rename implements FS.
func (f *Fault) Rename(oldName, newName string) error {
	op := Op{Kind: OpRename, Name: oldName, NewName: newName}
	return f.do(op, func() error { return f.inner.Rename(oldName, newName) })
}

// Mkdir implements FS.
func (f *Fault) Mkdir(name string) error {
	return f.do(Op{Kind: OpMkdir, Name: name}, func() error { return f.inner.Mkdir(name) })
}

// List implements FS.
func (f *Fault) List(name string) (infos []fs.FileInfo, err error) {
	err = f.do(Op{Kind: OpList, Name: name}, func() (err error) {
		infos, err = f.inner.List(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return infos, nil
}

// Stat implements FS.
func (f *Fault) Stat(name string) (info fs.FileInfo, err error) {
	err = f.do(Op{Kind: OpStat, Name: name}, func() (err error) {
		info, err = f.inner.Stat(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return info, nil
}

// SyncDir implements FS.
func (f *Fault) SyncDir(name string) error {
	return f.do(Op{Kind: OpSyncDir, Name: name}, func() error { return f.inner.SyncDir(name) })
}

type faultFile struct {
	fault *Fault
	inner File
	name  string
}

func (f *faultFile) op(kind OpKind) Op { return Op{Kind: kind, Name: f.name} }

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	return f.transfer(OpRead, p, off, f.inner.ReadAt)
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	return f.transfer(OpWrite, p, off, f.inner.WriteAt)
}

func (f *faultFile) transfer(kind OpKind, p []byte, off int64, move func([]byte, int64) (int, error)) (int, error) {
	op := Op{Kind: kind, Name: f.name, Offset: off, Length: int64(len(p))}
	out := f.fault.inj.Inject(op)
	if out.Err == nil {
		return move(p, off)
	}
	moved := 0
	switch out.Effect {
	case EffectWhole:
		moved = len(p)
	case EffectPart:
		moved = max(0, min(out.Bytes, len(p)))
	}
	n, err := move(p[:moved], off)
	if err != nil {
		return n, err
	}
	return n, injected(op, out.Err)
}

// Close closes the file whatever the injector says, as close(2) does.
func (f *faultFile) Close() error {
	op := f.op(OpClose)
	out := f.fault.inj.Inject(op)
	if err := f.inner.Close(); err != nil {
		return err
	}
	if out.Err != nil {
		return injected(op, out.Err)
	}
	return nil
}

func (f *faultFile) Size() (size int64, err error) {
	err = f.fault.do(f.op(OpSize), func() (err error) {
		size, err = f.inner.Size()
		return err
	})
	if err != nil {
		return 0, err
	}
	return size, nil
}

func (f *faultFile) Truncate(size int64) error {
	op := Op{Kind: OpTruncate, Name: f.name, Offset: size}
	return f.fault.do(op, func() error { return f.inner.Truncate(size) })
}

func (f *faultFile) Sync() error { return f.sync(OpSync, f.inner.Sync) }

func (f *faultFile) Datasync() error { return f.sync(OpDatasync, f.inner.Datasync) }

func (f *faultFile) sync(kind OpKind, sync func() error) error {
	op := f.op(kind)
	out := f.fault.inj.Inject(op)
	switch {
	case out.Err == nil:
		return sync()
	case out.Effect == EffectWhole:
		if err := sync(); err != nil {
			return err
		}
	case out.Effect == EffectDrop:
		f.FailSync()
	}
	return injected(op, out.Err)
}

// FailSync lets one Fault over another drop what is unsynced.
func (f *faultFile) FailSync() {
	if inner, ok := f.inner.(interface{ FailSync() }); ok {
		inner.FailSync()
	}
}

func (f *faultFile) Reserve(off, n int64) error {
	op := Op{Kind: OpReserve, Name: f.name, Offset: off, Length: n}
	return f.fault.do(op, func() error { return f.inner.Reserve(off, n) })
}
