package vhostuser

import "context"

// Request is one request of a queue. It is valid during the call of the
// [Handler] only.
type Request struct {
	Queue int
	// Readable is what the guest wrote, Writable where the answer goes. Both are
	// guest memory, which the guest may change at any time.
	Readable, Writable [][]byte
	// Scratch is for the handler: memory that no other request uses meanwhile. It
	// is nil at first; what a handler leaves here a later request finds, of any
	// queue of the connection.
	Scratch any

	ctx    context.Context // nil: the background
	blocks func()
}

// Handler handles one request and returns how many bytes at the beginning of
// Writable it wrote. It is called on several goroutines at once: those of one
// queue come one after another until one of them says that it [Request.Blocks],
// or takes longer than a few milliseconds.
type Handler func(*Request) int

// Context is done when nobody waits for the answer any more: the guest has gone
// or its queue has to stop. The handler then answers soon, with an error.
func (r *Request) Context() context.Context {
	if r.ctx == nil {
		return context.Background()
	}
	return r.ctx
}

// Blocks says that the handler is about to wait, for the network say. From then
// on the other requests of the queue are handled without waiting for this one,
// unless very many wait already. A handler that cannot know need not say: it is
// found out after some milliseconds. More than one call is allowed.
func (r *Request) Blocks() {
	if r.blocks != nil {
		r.blocks()
	}
}
