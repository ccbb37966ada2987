// Package castoretest is what every blob service and every directory service
// has to pass. An implementation joins with a test that hands in a function
// that opens an empty service.
package castoretest
