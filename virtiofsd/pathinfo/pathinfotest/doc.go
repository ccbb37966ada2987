// Package pathinfotest is what every path info service has to pass. An
// implementation joins with a test that hands in a function that opens an
// empty service.
package pathinfotest
