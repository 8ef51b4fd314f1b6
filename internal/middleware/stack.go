package middleware

// growStack makes the goroutine's stack as large as a turn needs, in one step.
//
// A turn is some 19 KiB deep where its model's answer is decoded, on the goroutine of the
// connection, which begins with a few. On the way there its stack would be doubled three times,
// and copied each time with ever more frames, whose pointers are adjusted: for a stream on a new
// connection that is a fifth of its CPU before the first text. Here there is next to nothing to
// copy.
//
// The stack grows when the function is entered, by the size of its frame, which goes up to the
// array. With used, which nobody is to pass, the array is written to; else it is not even zeroed.
//
//go:noinline
func growStack(used bool) byte {
	if !used {
		return 0
	}
	var room [20 << 10]byte
	for i := range room {
		room[i] = byte(i)
	}
	return room[len(room)/2]
}
