package group

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Defaults of Config.
const (
	DefaultMaxPollInterval  = 5 * time.Minute
	DefaultRebalanceTimeout = 30 * time.Second
)

// ErrMemberExists: a static member of that name is in the group already.
var ErrMemberExists = errors.New("group: a member of that name is there already")

// Config says how a group behaves.
type Config struct {
	// Assignor divides the partitions. Default: Sticky.
	Assignor Assignor
	// MaxPollInterval is how long a member may work on what it was given before it is taken for dead. Default 5 minutes;
	// negative: for ever.
	MaxPollInterval time.Duration
	// RebalanceTimeout is how long a member that was asked to hand a partition over may keep it. Default 30 s.
	RebalanceTimeout time.Duration
	// Absence is how long a static member's partitions wait for its return after it has left. Default: not at all.
	Absence time.Duration
}

func (c Config) withDefaults() Config {
	if c.Assignor == nil {
		c.Assignor = Sticky{}
	}
	c.MaxPollInterval = cmp.Or(c.MaxPollInterval, DefaultMaxPollInterval)
	c.RebalanceTimeout = cmp.Or(c.RebalanceTimeout, DefaultRebalanceTimeout)
	return c
}

// Partition is a partition as the lineage knows it. Parents have smaller ids.
type Partition struct {
	ID      uint64
	Parents []uint64
	Sealed  bool
}

// Member is a member's handle. Handles are never used again.
type Member uint64

// Ownership is a partition that a member has, and under which epoch: the one that its commits carry.
type Ownership struct {
	Partition, Epoch uint64
}

// View is what a member has to know.
type View struct {
	Generation uint64
	Owned      []Ownership // by partition
	Revoking   []uint64    // of these, those that it was asked to hand over
	Evicted    bool        // it worked for too long, and has nothing until it joins again
}

// Group is the state of a group; see the package comment. It is not safe for concurrent use.
type Group struct {
	cfg        Config
	parts      []*part // by id
	byID       map[uint64]*part
	members    []*member // by place
	byHandle   map[Member]*member
	byName     map[string]*member // static ones
	books      *books             // nil: the next settling has to look at everything
	last       Member
	epoch      uint64
	generation uint64
	dirty      bool
	changed    []*member // whose View has changed
	added      time.Time // the earliest of the deadlines that have been set since Added was called last; zero: none
}

// part is what the group knows of a partition.
type part struct {
	Partition
	children  []*part
	finished  bool    // read to its sealed end, and that is committed
	delivered bool    // all of it has been delivered to its owner
	owner     *member // nil: nobody's
	epoch     uint64
	target    *member   // whose it should be; nil: nobody's, for now
	revokeBy  time.Time // the owner is asked to hand it over, and loses it then if it does not; zero: it is not asked
}

// asked: the owner is asked to hand it over.
func (p *part) asked() bool { return !p.revokeBy.IsZero() }

type memberState uint8

const (
	active memberState = iota
	evicted
	away // a static member that has left and may return
	gone // it has left
)

type member struct {
	handle  Member
	place   Member  // where the assignors see it: its handle, or the place of the static member that it continues
	name    string  // of a static one
	owned   []*part // by id
	state   memberState
	working bool      // it has been given records and not asked for more
	since   time.Time // when that began, or the absence
	load    int       // partitions it should have; scratch of settling
	shelf   int       // of books: under how many partitions it stands; -1: nowhere
	moved   bool      // of books: where it stands may be wrong
	told    bool      // it is among the changed
}

func byPlace(m *member, place Member) int { return cmp.Compare(m.place, place) }

// with puts a partition among others, which are by id.
func with(parts []*part, p *part) []*part {
	at, there := find(parts, p)
	if there {
		return parts
	}
	return slices.Insert(parts, at, p)
}

// without takes a partition out again.
func without(parts []*part, p *part) []*part {
	at, there := find(parts, p)
	if !there {
		return parts
	}
	return slices.Delete(parts, at, at+1)
}

func find(parts []*part, p *part) (int, bool) {
	return slices.BinarySearchFunc(parts, p.ID, func(p *part, id uint64) int { return cmp.Compare(p.ID, id) })
}

// New returns the state of a group without members. Each ownership will have an epoch above the given one, which
// is to be the highest that is stored for the group.
func New(cfg Config, parts []Partition, epoch uint64) *Group {
	g := &Group{cfg: cfg.withDefaults(), byID: map[uint64]*part{}, byHandle: map[Member]*member{}, byName: map[string]*member{}, epoch: epoch}
	g.setPartitions(parts)
	return g
}

// Join adds a member. With a name it is a static one: if a member of that name is away, this one takes over what it
// had. ErrMemberExists: a member of that name is there.
func (g *Group) Join(now time.Time, name string) (Member, error) {
	before := g.byName[name] // none if it has no name
	if before != nil && before.state != away {
		return 0, fmt.Errorf("%w: %s", ErrMemberExists, name)
	}
	g.last++
	m := &member{handle: g.last, place: g.last, name: name, since: now, shelf: -1}
	if before == nil {
		g.members = append(g.members, m)
	} else {
		m.place = before.place // the assignors see it where it was
		for _, p := range slices.Clone(before.owned) {
			g.give(p, m)
			p.target = m
		}
		g.remove(before)
		at, _ := slices.BinarySearchFunc(g.members, m.place, byPlace)
		g.members = slices.Insert(g.members, at, m)
	}
	g.byHandle[m.handle] = m
	if name != "" {
		g.byName[name] = m
	}
	g.move(m)
	g.dirty = true
	return m.handle, nil
}

// Leave takes a member out. It has committed what it wanted to commit: its partitions are free at once, or, if it is a static one
// and Config.Absence says so, they wait for its return.
func (g *Group) Leave(now time.Time, h Member) {
	m := g.byHandle[h]
	if m == nil {
		return
	}
	if m.name != "" && g.cfg.Absence > 0 && m.state == active && len(m.owned) > 0 {
		g.away(now, m)
		return
	}
	g.remove(m)
}

// away has a member's partitions wait for it, but for those that it was to hand over, and those that it could only read because it had been
// delivered all of what they continue: when it returns it begins where it has committed.
func (g *Group) away(now time.Time, m *member) {
	m.state, m.since, m.working, g.books = away, now, false, nil
	g.dateOf(m)
	for _, p := range slices.Clone(m.owned) { // parents come first
		if _, anybody := g.follower(p); p.asked() || !anybody {
			p.target = nil
			g.free(p)
		}
	}
	g.dirty = true
}

// drop takes everything from a member.
func (g *Group) drop(m *member) {
	owned := m.owned
	m.owned = nil
	for _, p := range owned {
		g.free(p)
	}
	g.move(m)
	g.dirty = true
}

// remove takes a member out of the group, and everything from it. What it was to have is given to nobody before the next settling.
func (g *Group) remove(m *member) {
	m.state = gone
	g.drop(m)
	at, _ := slices.BinarySearchFunc(g.members, m.place, byPlace)
	g.members = slices.Delete(g.members, at, at+1)
	delete(g.byHandle, m.handle)
	if m.name != "" {
		delete(g.byName, m.name)
	}
}

// Rejoin makes an evicted member one like any other again.
func (g *Group) Rejoin(now time.Time, h Member) {
	if m := g.byHandle[h]; m != nil && m.state == evicted {
		m.state, m.working, m.since = active, false, now
		g.move(m)
		g.dirty = true
		g.tell(m)
	}
}

// Waiting notes that a member waits for records: it is alive.
func (g *Group) Waiting(h Member) {
	if m := g.byHandle[h]; m != nil {
		m.working = false
	}
}

// Working notes that a member has been given records: from now on MaxPollInterval counts.
func (g *Group) Working(now time.Time, h Member) {
	if m := g.byHandle[h]; m != nil {
		m.working, m.since = true, now
		g.dateOf(m)
	}
}

// Release hands partitions over that a member was asked for. What it was not asked for it keeps.
func (g *Group) Release(h Member, partitions ...uint64) {
	m := g.byHandle[h]
	for _, id := range partitions {
		if p := g.byID[id]; p != nil && m != nil && p.owner == m && p.asked() {
			g.free(p)
		}
	}
	g.grant(g.mayBeNobodys())
}

// Finished notes that a sealed partition has been read to its end by the group, and that this is committed.
// It is nobody's from now on.
func (g *Group) Finished(partition uint64) {
	if p := g.byID[partition]; p != nil && p.Sealed && !p.finished {
		p.finished, p.target = true, nil
		g.free(p)
		g.books, g.dirty = nil, true
	}
}

// Delivered notes that a member was delivered all of a sealed partition of its own: partitions that continue it may come to the same member.
func (g *Group) Delivered(h Member, partition uint64) {
	if p := g.byID[partition]; p != nil && p.Sealed && p.owner != nil && p.owner.handle == h && !p.delivered {
		p.delivered, g.books = true, nil
		g.dirty = g.dirty || len(p.children) > 0
	}
}

// Reopen notes that a finished partition is to be read again, in part. What continues it waits until it is finished again.
func (g *Group) Reopen(partition uint64) {
	if p := g.byID[partition]; p != nil && p.finished {
		p.finished = false
		g.books, g.dirty = nil, true
	}
}

// SetPartitions takes over a new lineage.
func (g *Group) SetPartitions(parts []Partition) { g.setPartitions(parts) }

func (g *Group) setPartitions(parts []Partition) {
	old := g.byID
	g.books = nil
	g.parts, g.byID = nil, make(map[uint64]*part, len(parts))
	for _, in := range parts {
		p := old[in.ID]
		if p == nil {
			p = &part{}
		}
		p.Partition, p.children = in, nil
		g.byID[in.ID] = p
		g.parts = append(g.parts, p)
		delete(old, in.ID)
	}
	slices.SortFunc(g.parts, func(a, b *part) int { return cmp.Compare(a.ID, b.ID) })
	for _, p := range g.parts {
		for _, id := range p.Parents {
			if parent := g.byID[id]; parent != nil { // a parent that retention has removed was read, or is told as a gap
				parent.children = append(parent.children, p)
			}
		}
	}
	for _, gone := range old {
		g.free(gone)
	}
	g.dirty = true
}

// Tick does what is due: members that have worked too long are evicted, partitions that were not handed over are taken, and static
// members that have not returned are given up.
func (g *Group) Tick(now time.Time) {
	for _, m := range slices.Clone(g.members) {
		at, due := g.due(m)
		if !due || at.After(now) {
			continue
		}
		g.drop(m)
		if m.state == away {
			g.remove(m)
			continue
		}
		m.state = evicted
		g.tell(m)
	}
	for _, p := range g.parts {
		if p.target != nil && p.target.state == evicted {
			p.target = nil // it gets nothing before the next settling, also if it is back by then
		}
		if p.asked() && !p.revokeBy.After(now) {
			g.free(p)
		}
	}
	g.grant(g.mayBeNobodys())
}

// due returns when a member's time is over.
func (g *Group) due(m *member) (time.Time, bool) {
	switch {
	case m.state == away:
		return m.since.Add(g.cfg.Absence), true
	case m.state == active && m.working && g.cfg.MaxPollInterval > 0:
		return m.since.Add(g.cfg.MaxPollInterval), true
	}
	return time.Time{}, false
}

// Deadline returns when Tick has something to do next, if nothing else happens before.
func (g *Group) Deadline() (at time.Time, ok bool) {
	sooner := func(t time.Time) {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	for _, m := range g.members {
		if t, due := g.due(m); due {
			sooner(t)
		}
	}
	for _, p := range g.parts {
		if p.asked() {
			sooner(p.revokeBy)
		}
	}
	return at, ok
}

// date notes that something will be due.
func (g *Group) date(at time.Time) {
	if g.added.IsZero() || at.Before(g.added) {
		g.added = at
	}
}

func (g *Group) dateOf(m *member) {
	if at, due := g.due(m); due {
		g.date(at)
	}
}

// Added returns the earliest of the deadlines that have come since it was called last: who knows Deadline from then needs to ask again only if this
// one is earlier. Deadline looks at everything, Added at nothing.
func (g *Group) Added() (at time.Time, ok bool) {
	at, g.added = g.added, time.Time{}
	return at, !at.IsZero()
}

// View returns what a member has to know.
func (g *Group) View(h Member) View {
	v := View{Generation: g.generation}
	m := g.byHandle[h]
	if m == nil || m.state == evicted {
		v.Evicted = true
		return v
	}
	for _, p := range m.owned {
		v.Owned = append(v.Owned, Ownership{p.ID, p.epoch})
		if p.asked() {
			v.Revoking = append(v.Revoking, p.ID)
		}
	}
	return v
}

// Changed returns the members whose View has changed since the last call.
func (g *Group) Changed() []Member {
	var out []Member
	for _, m := range g.changed {
		if m.told = false; m.state != gone {
			out = append(out, m.handle)
		}
	}
	slices.Sort(out)
	clear(g.changed)
	g.changed = g.changed[:0]
	return out
}

// Generation counts the times that the partitions were divided anew.
func (g *Group) Generation() uint64 { return g.generation }

// Assignor returns the group's assignor.
func (g *Group) Assignor() Assignor { return g.cfg.Assignor }

// Spare returns how many more members would each find a partition: of those that may go to anybody, how many there are beyond the
// members that are active.
func (g *Group) Spare() int {
	n := 0
	for _, p := range g.parts {
		if p.finished {
			continue
		}
		if _, anybody := g.follower(p); anybody {
			n++
		}
	}
	for _, m := range g.members {
		if m.state == active {
			n--
		}
	}
	return max(0, n)
}

// Empty reports whether the group has no members, away ones included.
func (g *Group) Empty() bool { return len(g.members) == 0 }

// MemberInfo describes a member.
type MemberInfo struct {
	Member Member
	Name   string // "" if it is no static one
	Away   bool
	Owned  []Ownership
}

// Members describes the members, in the order in which they joined.
func (g *Group) Members() []MemberInfo {
	out := make([]MemberInfo, len(g.members))
	for i, m := range g.members {
		out[i] = MemberInfo{Member: m.handle, Name: m.name, Away: m.state == away, Owned: g.View(m.handle).Owned}
	}
	return out
}

func (g *Group) tell(m *member) {
	if !m.told {
		m.told = true
		g.changed = append(g.changed, m)
	}
}

// free makes a partition nobody's.
func (g *Group) free(p *part) {
	if p.owner != nil {
		g.disown(p)
		if g.books != nil {
			g.books.orphans = with(g.books.orphans, p)
		}
	}
	p.owner, p.delivered = nil, false
	g.unask(p)
}

// give makes a partition a member's, under a new epoch.
func (g *Group) give(p *part, m *member) {
	if p.owner != nil {
		g.disown(p)
	} else if g.books != nil {
		g.books.orphans = without(g.books.orphans, p)
	}
	g.epoch++
	p.owner, p.epoch, p.delivered = m, g.epoch, false
	m.owned = with(m.owned, p)
	g.unask(p)
	g.move(m)
	g.tell(m)
}

func (g *Group) disown(p *part) {
	m := p.owner
	m.owned = without(m.owned, p)
	g.move(m)
	g.tell(m)
}

// ask has a partition's owner be asked to hand it over.
func (g *Group) ask(p *part, by time.Time) {
	p.revokeBy = by
	g.date(by)
	if g.books != nil {
		g.books.asked = with(g.books.asked, p)
	}
}

func (g *Group) unask(p *part) {
	p.revokeBy = time.Time{}
	if g.books != nil {
		g.books.asked = without(g.books.asked, p)
	}
}
