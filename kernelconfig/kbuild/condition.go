package kbuild

import (
	"regexp"
	"slices"
	"strings"

	"storeboot/internal/kconfig"
)

// token is a piece of a condition: an operator, a name, or a string.
var token = regexp.MustCompile(`&&|\|\||!=|<=|>=|[()!=<>]|"[^"]*"|\$\([^)]*\)|[A-Za-z0-9_./-]+`)

// evaluator evaluates a condition of Kconfig:
//
//	EXPR = AND { "||" AND }    AND = TERM { "&&" TERM }
//	TERM = "!" TERM | "(" EXPR ")" | SYMBOL [ ("=" | "!=" | "<" ...) SYMBOL ]
type evaluator struct {
	tokens []string
	config *kconfig.Config
}

// maxTokens bounds a condition; the kernel's longest have about 100.
const maxTokens = 1000

// evaluate says whether condition holds, m counting as y, and if not which
// options stand in the way. What asks the compiler ($(cc-option,...)) counts as true.
func evaluate(condition string, c *kconfig.Config) (met bool, blame []string) {
	e := &evaluator{token.FindAllString(condition, -1), c}
	if len(e.tokens) > maxTokens {
		return true, nil
	}
	met, blame = e.or()
	slices.Sort(blame)
	return met, slices.Compact(blame)
}

func (e *evaluator) next() string {
	if len(e.tokens) == 0 {
		return ""
	}
	return e.tokens[0]
}

func (e *evaluator) take() string {
	t := e.next()
	if t != "" {
		e.tokens = e.tokens[1:]
	}
	return t
}

func (e *evaluator) or() (bool, []string) {
	met, blame := e.and()
	for e.next() == "||" {
		e.take()
		m, b := e.and()
		met, blame = met || m, append(blame, b...)
	}
	if met {
		return true, nil
	}
	return false, blame
}

func (e *evaluator) and() (bool, []string) {
	met, blame := e.term()
	for e.next() == "&&" {
		e.take()
		m, b := e.term()
		met, blame = met && m, append(blame, b...)
	}
	return met, blame
}

func (e *evaluator) term() (bool, []string) {
	switch t := e.take(); t {
	case "!":
		if strings.HasPrefix(e.next(), "$") { // of the compiler: not known
			e.take()
			return true, nil
		}
		if e.next() == "(" || e.next() == "!" {
			met, _ := e.term()
			return !met, nil
		}
		name := e.take()
		if e.config.Get(name) == kconfig.No {
			return true, nil
		}
		return false, []string{name + " is on"}
	case "(":
		met, blame := e.or()
		if e.next() == ")" {
			e.take()
		}
		return met, blame
	default:
		return e.compare(t)
	}
}

// compare evaluates a symbol, or a comparison that begins with it.
func (e *evaluator) compare(left string) (bool, []string) {
	value := func(s string) kconfig.Value {
		switch {
		case strings.HasPrefix(s, `"`), s == "y", s == "m", s == "n":
			return kconfig.Value(strings.Trim(s, `"`))
		}
		return e.config.Get(s)
	}
	switch op := e.next(); op {
	case "=", "!=":
		e.take()
		right := e.take()
		if (value(left) == value(right)) == (op == "=") {
			return true, nil
		}
		return false, []string{left + op + right + " does not hold"}
	case "<", ">", "<=", ">=": // numbers of versions: of the compiler, not known
		e.take()
		e.take()
		return true, nil
	}
	if strings.HasPrefix(left, "$") || left == "y" || left == "m" || value(left) != kconfig.No {
		return true, nil
	}
	return false, []string{left + " is off"}
}
