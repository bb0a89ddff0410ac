// SPDX-License-Identifier: Apache-2.0

// gostacks inline|frameless|system|grow, until stopped.
//
// inline:    main.main → main.realFunction → main.inlinedOne → main.inlinedTwo →
//
//	main.inlinedThree, the last three inlined into realFunction.
//
// frameless: main.main → main.framelessCaller → main.framelessLeaf; the leaf needs no stack, so
// Go gives it no frame and its caller's frame pointer is still in the register.
//
// system:    main.main → main.onSystemStack → runtime.ReadMemStats, which works on the thread's own
//
//	stack: on the main thread that one lies above all goroutines' stacks.
//
// grow:      main.growsStack → main.deepens, again and again, on a stack that is made larger for it: the runtime copies
//
//	it, on the thread's own.
package main

import (
	"os"
	"runtime"
)

var sink uint64

func inlinedThree(x uint64) uint64 {
	return x*5 + 1
}

func inlinedTwo(x uint64) uint64 {
	return inlinedThree(x) ^ 0x55
}

func inlinedOne(x uint64) uint64 {
	return inlinedTwo(x) + 3
}

//go:noinline
func realFunction() {
	x := uint64(1)
	for i := 0; i < 200000000; i++ {
		x = inlinedOne(x)
	}
	sink = x
}

//go:noinline
func framelessLeaf(n uint64) uint64 {
	x := n
	for i := uint64(0); i < n; i++ {
		x = x*5 ^ i
	}
	return x
}

//go:noinline
func framelessCaller() {
	sink += framelessLeaf(200000000)
}

//go:noinline
func onSystemStack() {
	var stats runtime.MemStats
	for i := 0; i < 100000; i++ {
		runtime.ReadMemStats(&stats)
	}
	sink += stats.Sys
}

//go:noinline
func deepens(n int) uint64 {
	var locals [256]uint64
	locals[n&255] = uint64(n)
	if n > 0 {
		locals[0] += deepens(n - 1)
	}
	return locals[0] + locals[n&255]
}

//go:noinline
func growsStack(done chan uint64) {
	done <- deepens(400)
}

func main() {
	// On the main thread, so that it is known where the thread's own stack is.
	runtime.LockOSThread()
	mode := append(os.Args, "inline")[1]
	for {
		switch mode {
		case "frameless":
			framelessCaller()
		case "system":
			onSystemStack()
		case "grow":
			done := make(chan uint64)
			go growsStack(done)
			sink += <-done
		default:
			realFunction()
		}
	}
}
