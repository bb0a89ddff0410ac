// SPDX-License-Identifier: Apache-2.0

// gocalls out|moved|thread, until stopped.
//
// out:    main.main → main.callsOut → called_by_go → main.calledByC → main.worksInGo
//
// moved:  the same, but main.calledByC has its goroutine's stack grow before it works: it is moved
//
//	while C's frames keep addresses of where it was.
//
// thread: thread_of_c → calls_go → main.calledByC → main.worksInGo: no goroutine stands before C
package main

/*
void called_by_go(int grows);
void start_thread_of_c(void);
*/
import "C"

import "os"

var sink uint64

//go:noinline
func worksInGo() {
	x := uint64(1)
	for i := 0; i < 20000000; i++ {
		x = x*5 + uint64(i)
	}
	sink += x
}

//go:noinline
func grows(depth int) byte {
	var large [4096]byte
	large[depth&4095] = byte(depth)
	if depth > 0 {
		large[0] += grows(depth - 1)
	}
	return large[depth&4095]
}

//export calledByC
func calledByC(growing C.int) {
	if growing != 0 {
		sink += uint64(grows(64))
	}
	worksInGo()
}

//go:noinline
func callsOut(growing C.int) {
	C.called_by_go(growing)
}

func main() {
	mode := append(os.Args, "out")[1]
	for {
		switch mode {
		case "moved":
			// Each goroutine begins with a small stack.
			done := make(chan bool)
			go func() {
				callsOut(1)
				done <- true
			}()
			<-done
		case "thread":
			C.start_thread_of_c()
		default:
			callsOut(0)
		}
	}
}
