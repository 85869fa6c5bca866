package model

import (
	"fmt"
	"math/rand/v2"

	"github.com/leanovate/gopter"
	"github.com/leanovate/gopter/commands"
	"github.com/leanovate/gopter/gen"
)

// state is what is known of a broker before anything has been done to it: which commands make sense.
type state struct {
	commands int
	passing  bool // there is the second topic
	members  [len(slots)]bool
}

// slot is a member that there may be.
type slot struct {
	topic, group string
	latest       bool // the group begins at the latest record
	commits      bool // what it was delivered, when partitions are taken from it
}

var slots = [...]slot{
	{topic: lasting, group: "all"}, {topic: lasting, group: "all", commits: true}, {topic: lasting, group: "all"},
	{topic: lasting, group: "late", latest: true},
	{topic: passing, group: "all"}, {topic: passing, group: "all", commits: true},
}

// Topics: one that keeps everything, and one that is deleted and made again, and has retention.
const (
	lasting = "lasting"
	passing = "passing"
)

// op is a kind of command.
type op struct {
	name   string
	weight int
	about  subject
	// can reports whether it makes sense.
	can func(state, command) bool
	// then is the state afterwards; nil: the same.
	then func(state, command) state
	// do carries it out and compares.
	do func(*world, command) error
}

// subject says what the command's slot stands for.
type subject uint8

const (
	aboutNothing subject = iota
	aboutTopic
	aboutMember
)

// command is an op with its choices.
type command struct {
	op   *op
	slot int    // the member, and with it the group and the topic
	n    int    // how much
	seed uint64 // of the choices that depend on what there is then
}

// topic is the topic that the command is about.
func (c command) topic() string { return slots[c.slot].topic }

// random makes the choices.
func (c command) random() *rand.Rand { return rand.New(rand.NewPCG(c.seed, 0)) }

// Run implements commands.Command.
func (c command) Run(sut commands.SystemUnderTest) commands.Result { return sut.(*world).run(c) }

// NextState implements commands.Command.
func (c command) NextState(s commands.State) commands.State {
	st := s.(state)
	if c.op.then != nil {
		st = c.op.then(st, c)
	}
	st.commands++
	return st
}

// PreCondition implements commands.Command.
func (c command) PreCondition(s commands.State) bool {
	st := s.(state)
	if c.op.about != aboutNothing && c.topic() == passing && !st.passing {
		return false
	}
	return c.op.can == nil || c.op.can(st, c)
}

// PostCondition implements commands.Command.
func (c command) PostCondition(_ commands.State, result commands.Result) *gopter.PropResult {
	if err, _ := result.(error); err != nil {
		return &gopter.PropResult{Status: gopter.PropFalse, Labels: []string{err.Error()}}
	}
	return &gopter.PropResult{Status: gopter.PropTrue}
}

// String implements commands.Command.
func (c command) String() string {
	switch c.op.about {
	case aboutTopic:
		return fmt.Sprintf("%s(%s n=%d seed=%x)\n", c.op.name, c.topic(), c.n, c.seed)
	case aboutMember:
		return fmt.Sprintf("%s(member %d of %s/%s n=%d seed=%x)\n", c.op.name, c.slot, c.topic(), slots[c.slot].group, c.n, c.seed)
	}
	return fmt.Sprintf("%s(n=%d seed=%x)\n", c.op.name, c.n, c.seed)
}

// genCommand makes any command.
var genCommand = gopter.Gen(func(params *gopter.GenParameters) *gopter.GenResult {
	total := 0
	for i := range ops {
		total += ops[i].weight
	}
	c := command{slot: params.Rng.Intn(len(slots)), n: 1 + params.Rng.Intn(8), seed: params.Rng.Uint64() >> 32}
	at := params.Rng.Intn(total)
	for i := range ops {
		if at -= ops[i].weight; at < 0 {
			c.op = &ops[i]
			break
		}
	}
	return gopter.NewGenResult(c, func(v any) gopter.Shrink {
		return gen.IntShrinker(v.(command).n).Map(func(n int) commands.Command {
			less := v.(command)
			less.n = max(1, n)
			return less
		})
	})
})
