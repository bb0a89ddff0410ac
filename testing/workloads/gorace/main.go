// SPDX-License-Identifier: Apache-2.0

// gorace, built with -race, until stopped: main.main → main.outerWork → main.raceWork, and on another
// thread main.startsWork → main.recursiveWork, seven times. Each access to memory is told to the race
// detector, which is C and runs on the thread's own stack.
package main

import "sync/atomic"

type numbers struct {
	values [256]uint64
	sum    uint64
}

var counter int64

//go:noinline
func raceWork(on *numbers) {
	for i := range on.values {
		on.values[i] += on.values[(i*7)&255] + 1
	}
	on.sum += on.values[0]
}

//go:noinline
func atomicWork() {
	for i := 0; i < 16; i++ {
		atomic.AddInt64(&counter, 1)
	}
}

//go:noinline
func outerWork(on *numbers) {
	raceWork(on)
	atomicWork()
	on.sum++
}

//go:noinline
func recursiveWork(on *numbers, depth int) uint64 {
	if depth == 0 {
		raceWork(on)
		return on.sum
	}
	return recursiveWork(on, depth-1) + on.values[depth]
}

//go:noinline
func startsWork() {
	on := new(numbers)
	for {
		on.sum += recursiveWork(on, 6)
	}
}

func main() {
	go startsWork()
	on := new(numbers)
	for {
		outerWork(on)
	}
}
