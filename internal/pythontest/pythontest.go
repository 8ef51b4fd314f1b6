// Package pythontest has programs and packages of PyPI for tests.
package pythontest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// installTimeout bounds pip, which took 70 s for 700 MB.
const installTimeout = 8 * time.Minute

// Environment returns the directory bin of a virtual environment with the packages of a
// requirements file. It is in the user's cache directory, one for each content of such a
// file. In CI it is made when it is missing; elsewhere the test is skipped, with a message that names
// what is not tested.
func Environment(t testing.TB, requirements, what string) string {
	t.Helper()
	raw, err := os.ReadFile(requirements)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	dir := filepath.Join(cache, "gatehouse", "python-"+hex.EncodeToString(sum[:6]))
	bin, complete := filepath.Join(dir, "bin"), filepath.Join(dir, "complete")
	if _, err := os.Stat(complete); err == nil {
		return bin
	}
	if os.Getenv("CI") == "" {
		t.Skipf("NOT TESTED: %s. With CI=true the test installs %s in the cache directory.", what, raw)
	}
	ctx, cancel := context.WithTimeout(t.Context(), installTimeout)
	defer cancel()
	for _, command := range [][]string{
		{"python3", "-m", "venv", "--clear", dir},
		{filepath.Join(bin, "pip"), "install", "-q", "--disable-pip-version-check", "-r", requirements},
	} {
		if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", command, err, out)
		}
	}
	if err := os.WriteFile(complete, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return bin
}
