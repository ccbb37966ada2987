package agent

import "sync"

// credit is how many bytes may still be sent.
type credit struct {
	mu     sync.Mutex
	more   *sync.Cond
	whole  int
	left   int
	closed bool
}

func newCredit(n int) *credit {
	c := &credit{whole: n, left: n}
	c.more = sync.NewCond(&c.mu)
	return c
}

// take waits until n bytes may be sent; false means never.
func (c *credit) take(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.left < n && !c.closed {
		c.more.Wait()
	}
	c.left -= n
	return !c.closed
}

// add gives back n bytes, no more than there were.
func (c *credit) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = min(c.left+n, c.whole)
	c.more.Broadcast()
}

func (c *credit) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.more.Broadcast()
}

// waitTaken waits until all that was sent has been taken, or done is closed.
func (c *credit) waitTaken(done <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.left < c.whole && !c.closed {
		select {
		case <-done:
			return
		default:
		}
		c.more.Wait()
	}
}

// queue holds input that the program has not taken yet: AgentWindow bytes at
// most, as the launcher sends no more.
type queue struct {
	mu     sync.Mutex
	more   *sync.Cond
	list   [][]byte
	closed bool
}

func newQueue() *queue {
	q := &queue{}
	q.more = sync.NewCond(&q.mu)
	return q
}

func (q *queue) put(data []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.list = append(q.list, data)
	}
	q.more.Broadcast()
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.more.Broadcast()
}

func (q *queue) get() ([]byte, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.list) == 0 && !q.closed {
		q.more.Wait()
	}
	if len(q.list) == 0 {
		return nil, false
	}
	data := q.list[0]
	q.list = q.list[1:]
	return data, true
}
