//go:build step

package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// The clock jumps an hour ahead at SIGUSR1, and an hour back at SIGUSR2. `build` makes time.Step.
func init() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for each := range signals {
			if each == syscall.SIGUSR1 {
				time.Step(3600)
			} else {
				time.Step(-3600)
			}
			os.Stderr.WriteString("it is " + time.Now().Format(time.RFC3339) + "\n")
		}
	}()
}
