package limit

// Remembered returns how many subjects l remembers.
func Remembered(l *Limiter) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.subjects)
}
