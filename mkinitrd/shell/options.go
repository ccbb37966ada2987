package main

import (
	"errors"
	"fmt"
	"strings"
)

// options is a command line of sh.
type options struct {
	command     *string  // of -c
	name        string   // $0
	file        string   // a script
	args        []string // $1 and so on
	set         []string // options of the builtin set: "-e"
	interactive bool
}

// parseOptions follows sh(1): options end at the first word that is none.
func parseOptions(args []string) (options, error) {
	var o options
	wantCommand := false
	for len(args) > 0 && len(args[0]) > 1 && (args[0][0] == '-' || args[0][0] == '+') {
		word := args[0]
		args = args[1:]
		if word == "--" {
			break
		}
		if word == "-o" || word == "+o" {
			if len(args) == 0 {
				return o, fmt.Errorf("%s: the name of an option is missing", word)
			}
			o.set = append(o.set, word, args[0])
			args = args[1:]
			continue
		}
		for _, c := range word[1:] {
			switch {
			case c == 'c' && word[0] == '-':
				wantCommand = true
			case c == 'i':
				o.interactive = true
			case c == 'l' || c == 's':
			case strings.ContainsRune("aefnux", c):
				o.set = append(o.set, string(word[0])+string(c))
			default:
				return o, fmt.Errorf("%s: unknown option", word)
			}
		}
	}
	if wantCommand {
		if len(args) == 0 {
			return o, errors.New("-c: the command is missing")
		}
		o.command = &args[0]
		args = args[1:]
		o.name = "sh"
		if len(args) > 0 {
			o.name, args = args[0], args[1:]
		}
	} else if len(args) > 0 {
		o.file, o.name = args[0], args[0]
		args = args[1:]
	}
	o.args = args
	return o, nil
}
