package vhostusertest

import "errors"

// Job is a row of requests, each of which waits for the answer to the one before:
// to open, read and close a file, say.
type Job interface {
	// Next returns the next request, given the answer to the last one, nil at
	// first; ok is false when there is no more. What the answer points to is valid
	// during the call.
	Next(last *FuseAnswer) (r FuseRequest, ok bool, err error)
}

// Run does the jobs that next returns, depth of them at once, until it returns
// nil and none is under way: while there are some, it is asked again after each
// answer, as an answer may bring more to do.
func (g *Guest) Run(depth int, next func() Job) error {
	if depth > g.Options.Depth {
		return errors.New("more jobs at once than the guest has requests in flight")
	}
	jobs := make([]Job, g.Options.Depth) // by slot
	running := 0
	send := func(j Job, last *FuseAnswer) (sent bool, err error) {
		r, ok, err := j.Next(last)
		if err != nil || !ok {
			return false, err
		}
		slot, err := g.Fill(r)
		if err != nil {
			return false, err
		}
		jobs[slot] = j
		g.Q.Offer(g.head(slot))
		return true, nil
	}
	for {
		for running < depth {
			j := next()
			if j == nil {
				break
			}
			sent, err := send(j, nil)
			if err != nil {
				return err
			}
			if sent {
				running++
			}
		}
		if running == 0 {
			return nil
		}
		if err := g.Q.Flush(); err != nil {
			return err
		}
		for wait := true; wait || (running > 0 && g.Q.Answers() > 0); wait = false {
			a, err := g.Receive()
			if err != nil {
				return err
			}
			sent, err := send(jobs[a.Slot], &a)
			if err != nil {
				return err
			}
			if !sent {
				running--
			}
		}
	}
}
