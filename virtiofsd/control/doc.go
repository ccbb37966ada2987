// Package control is the protocol of the control socket of 'virtiofsd daemon', by
// which vhost-user sockets are made, listed and removed while it runs.
//
// The control socket is a unix stream socket; who may open it (its mode is 0600)
// may do all. A client sends one request and gets one answer, each a line of
// JSON of at most [MaxMessage] bytes; file descriptors travel with the request
// (SCM_RIGHTS). After [OpAttach] the connection stays: the socket that was
// attached is removed when either side closes it. If the socket ends by itself,
// one more answer comes before the end of the connection; without it the daemon
// is ending.
//
// The listening socket is made by the client and handed over by descriptor: the
// daemon needs no access to the directory it is in.
package control
