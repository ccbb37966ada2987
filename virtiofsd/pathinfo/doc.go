// Package pathinfo is the table of store paths: a [PathInfo] says which tree a
// store path holds, which other store paths it refers to, and what Nix knows of
// it. Format: spec/store.md 1.2 and 1.4.
package pathinfo
