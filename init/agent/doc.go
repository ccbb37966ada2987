// Package agent is the guest's end of the launcher's "exec": a process of its
// own beside the system that runs, which starts programs when the launcher asks
// for them and passes their input and output on, in the frames of bootproto.
//
// It is init's own binary under the name [Name]. init starts it as its child
// when the run specification asks for it; a system that init hands over to
// inherits it. The launcher is trusted; the programs are not: what they write is
// bounded by bootproto.AgentWindow.
package agent
