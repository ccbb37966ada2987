// Package s3test runs a real S3 server for tests: versitygw, over a directory of
// the test.
package s3test
