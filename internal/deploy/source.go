package deploy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// steps is the directory of the delivery's scripts in the archive of a commit.
const steps = ".delivery/steps"

// notBuilt lists what a build does not need, as git pathspecs.
var notBuilt = []string{":(exclude,glob)**/*_test.go", ":(exclude)terraform", ":(exclude)environments", ":(exclude).ci"}

// archive writes the commit and the scripts that build it as a gzipped tar. git
// archive makes it, with the commit's time on every file, so that uncommitted changes
// are not built and a commit always has the same archive.
func archive(ctx context.Context, c *commands, commit, scripts, file string) error {
	args := append([]string{"archive", "--format=tar", commit, "--", "."}, notBuilt...)
	if c.dryRun {
		return c.run(ctx, "git", args...)
	}
	raw, err := c.git(ctx, args...)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	out := tar.NewWriter(zipped)
	in := tar.NewReader(strings.NewReader(raw))
	var last tar.Header
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("the archive of %s: %w", commit, err)
		}
		last = *header
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
	// The steps travel with the source, since a repository that only imports the module
	// does not have them. They get the time of the commit's last file: the archive stays
	// the same.
	for _, name := range []string{"build", "lib.sh", "project.toml"} {
		text, err := os.ReadFile(filepath.Join(scripts, name))
		if err != nil {
			return err
		}
		if err := out.WriteHeader(&tar.Header{Name: steps + "/" + name, Mode: 0o755, Size: int64(len(text)), ModTime: last.ModTime}); err != nil {
			return err
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
	if err := errors.Join(out.Close(), zipped.Close()); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, packed.Bytes(), 0o600)
}
