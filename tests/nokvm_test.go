//go:build !kvm

package tests

import "testing"

// runTests runs the tests here; with the build tag kvm, where there is a KVM.
func runTests(m *testing.M) int { return m.Run() }
