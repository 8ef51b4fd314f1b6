package invoke

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/files"
	"example.com/gatehouse/internal/garbage"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// Files come with a question, inline or by a gs:// address, and go out with an answer,
// of the model and of tools. Their bytes are sent to the model in their own turn and do
// not lie in the session: the stored contents refer to them. With a [FileStore] they
// are kept there, under the hashes of owner and session, as long as the session is, and
// later turns refer to them too; without one, later turns have a note of what was there.

// A FileStore keeps the files of sessions by names that begin with their owner's hash.
// Its errors are those of package files, or the store's own. Its methods are safe for
// concurrent use and end with their context. Names end with the digest of type and content, so
// that a file which comes twice is one object and a retry of Put does no harm. Objects expire
// by themselves, so that what a crash leaves behind goes away.
type FileStore interface {
	// URI returns the gs:// address of a file, for the model.
	URI(name string) string
	// Put stores a file unless there is one of this name, which has the same content.
	Put(ctx context.Context, name, mediaType string, data []byte, expires time.Time) error
	// Get returns a file of at most limit bytes.
	Get(ctx context.Context, name string, limit int64) (mediaType string, data []byte, err error)
	// Delete removes all files whose names begin with prefix. If it fails, some are
	// removed, and the next call continues.
	Delete(ctx context.Context, prefix string) error
	// Extend has these files expire at another time.
	Extend(ctx context.Context, prefix string, expires time.Time) error
}

// Files is the part of a [Config] about files.
type Files struct {
	Types    files.Types   // that are accepted; none: no files are
	MaxBytes int64         // of all files of a request, and of an answer
	Store    FileStore     // nil: files serve in their own turn only
	TTL      time.Duration // of sessions
	Buckets  []string      // that a request's gs:// may name
	// Read reads an object of another bucket. It returns the type that it was stored with.
	Read func(ctx context.Context, bucket, object string, limit int64) (mediaType string, data []byte, err error)
	// ByAddress is set if the model reads gs:// addresses itself, as on Vertex AI.
	ByAddress bool
	// HighResolution is set if the agent asks for a high media resolution.
	HighResolution bool
}

func (f Files) accepted() bool { return len(f.Types) > 0 && f.MaxBytes > 0 }

// A FileInput is a file of a request.
type FileInput struct {
	Type string `json:"type,omitempty" maxLength:"127" doc:"The media type; an object's own when absent." example:"image/png"`
	Data string `json:"data,omitempty" doc:"In base64. Either data or uri is required."`
	URI  string `json:"uri,omitempty" maxLength:"1300" doc:"gs://, of an object that the service may read."`
}

// An attachment is a file of a turn while it runs.
type attachment struct {
	session.File
	place  place
	bucket string // of the address
	object string
	data   []byte
	kept   bool // for an earlier part of the run, see [keptFiles]
}

// A place is where a file is in a request's body, and the names of its members there.
type place struct{ path, typ, uri string }

// These name the place of a file in the body of POST /invoke, and of POST /chat, for errors.
func invokePlace(i int) place     { return place{fmt.Sprintf("files[%d]", i), ".type", ".uri"} }
func chatPlace(path string) place { return place{path, ".mediaType", ".url"} }

// decodeFiles turns the files of a decoded body into attachments. data holds the contents
// that were taken out of the body, nil if none were. In req it leaves digests in their
// place, by which a retry is recognized.
func (s *Service) decodeFiles(req *Request, data [][]byte) error {
	if len(req.Files) > 0 && !s.Files.accepted() {
		return api.Invalid("files", "must be left out: this service accepts no files")
	}
	left := s.Files.MaxBytes
	for i := range req.Files {
		in, at := &req.Files[i], invokePlace(i)
		if (in.Data != "" || data != nil && data[i] != nil) == (in.URI != "") {
			return api.Invalid(at.path, "must have either data or uri, and data must not be empty")
		}
		if in.URI != "" {
			a, err := s.named(at, in.Type, in.URI)
			if err != nil {
				return err
			}
			req.attached = append(req.attached, a)
			continue
		}
		var content []byte
		if data != nil && data[i] != nil {
			content = data[i]
		} else {
			var err error
			if content, err = files.Decode([]byte(in.Data)); err != nil {
				return api.Invalid(at.path+".data", err.Error())
			}
		}
		if left -= int64(len(content)); left < 0 {
			return api.FilesTooLarge(s.Files.MaxBytes)
		}
		a, err := s.inline(at, in.Type, "", content)
		if err != nil {
			return err
		}
		in.Data = a.Digest
		req.attached = append(req.attached, a)
	}
	return nil
}

// inline returns the attachment for content that came with the request. The type is checked
// against the content: the model, later turns and whoever downloads the file go by it.
func (s *Service) inline(at place, declared, name string, content []byte) (*attachment, error) {
	mediaType, err := s.Files.Types.Check(declared, content)
	switch {
	case errors.Is(err, files.ErrType):
		return nil, api.Invalid(at.path+at.typ, err.Error()+": "+strings.Join(s.Files.Types, ", "))
	case err != nil:
		return nil, api.Invalid(at.path, err.Error())
	}
	return &attachment{place: at, data: content, File: session.File{
		Name: name, Type: mediaType, Bytes: int64(len(content)), Digest: files.Digest(mediaType, content),
		Tokens: files.Tokens(mediaType, content, s.Files.HighResolution),
	}}, nil
}

// named returns the attachment for an address.
func (s *Service) named(at place, declared, uri string) (*attachment, error) {
	bucket, object, err := files.ParseURI(uri)
	if err != nil {
		return nil, api.Invalid(at.path+at.uri, err.Error())
	}
	if err := s.checkBucket(at, bucket); err != nil {
		return nil, err
	}
	name := object[strings.LastIndexByte(object, '/')+1:]
	if files.CheckName(name) != nil {
		name = ""
	}
	return &attachment{place: at, bucket: bucket, object: object, File: session.File{Name: name, Type: declared, URI: uri}}, nil
}

// checkBucket returns an error for a bucket whose objects a request may not name. The service
// reads with the rights of its account: without the list a caller could have it read any object
// that the account can.
func (s *Service) checkBucket(at place, bucket string) error {
	if !slices.Contains(s.Files.Buckets, bucket) {
		return api.Invalid(at.path+at.uri, "names a bucket that cannot be read here")
	}
	return nil
}

// readNamed reads the attachments that are addresses, so that their types and sizes are
// checked and their tokens counted as those of others. Sizes are not known before, so each
// object may have MaxBytes while it is read, and the sum is checked at the end: a request
// holds at most [files.Max] times MaxBytes. Its errors are [*api.Error]: 422, 413, or 503 if
// the bucket does not answer.
func (s *Service) readNamed(ctx context.Context, attached []*attachment) error {
	group, ctx := errgroup.WithContext(ctx)
	named := 0
	for _, a := range attached {
		if a.bucket == "" {
			continue
		}
		named++
		group.Go(func() error {
			if err := s.checkBucket(a.place, a.bucket); err != nil { // no longer: a run can wait in the queue
				return err
			}
			reading, cancel := context.WithTimeout(ctx, storeTimeout)
			defer cancel()
			stored, data, err := s.Files.Read(reading, a.bucket, a.object, s.Files.MaxBytes)
			switch {
			case errors.Is(err, files.ErrNotFound):
				return api.Invalid(a.place.path+a.place.uri, "names an object that is not there or cannot be read")
			case errors.Is(err, files.ErrTooLarge):
				return api.FilesTooLarge(s.Files.MaxBytes)
			case err != nil:
				return api.Fail(api.SessionStoreUnavailable, err)
			}
			declared := a.Type
			if declared == "" {
				declared = files.TypeOf(stored, a.object)
			}
			checked, err := s.inline(a.place, declared, a.Name, data)
			if err != nil {
				return err
			}
			checked.URI, checked.Digest = a.URI, "" // it stays where it is
			a.File, a.data = checked.File, data
			return nil
		})
	}
	if err := group.Wait(); err != nil || named == 0 {
		return err
	}
	left := s.Files.MaxBytes
	for _, a := range attached {
		left -= a.Bytes
	}
	if left < 0 {
		return api.FilesTooLarge(s.Files.MaxBytes)
	}
	return nil
}

// sessionPrefix returns what the names of a session's files begin with, and ownerPrefix what
// those of an owner's do.
func sessionPrefix(key session.Key) string   { return ownerPrefix(key.Owner) + key.Hash() + "/" }
func ownerPrefix(owner session.Owner) string { return string(owner) + "/" }

// filePath is the path at which a session's owner reads a kept file.
func filePath(sessionID, digest string) string {
	return "/sessions/" + sessionID + "/files/" + digest
}

// openFiles returns the files of a turn that begins: those of the question are read and
// kept. They are kept before the model is asked, because the stored contents name them: a turn
// must not refer to what is not there. If the turn fails, see forget.
func (s *Service) openFiles(ctx context.Context, key session.Key, req *Request, out *output) (*turnFiles, error) {
	f := newTurnFiles(key, s.Files.Store, s.Files.MaxBytes, out)
	// There is no session with which they would be deleted.
	if req.Options.Sessionless {
		f.store = nil
	}
	if len(req.attached) == 0 {
		return f, nil
	}
	if err := s.readNamed(ctx, req.attached); err != nil {
		return nil, err
	}
	if err := s.readKept(ctx, f, req.attached); err != nil {
		return nil, err
	}
	if err := s.keep(ctx, f, req.attached); err != nil {
		return nil, api.Fail(api.SessionStoreUnavailable, err)
	}
	return f, nil
}

// keep stores attachments that came with their content. Without a store they are marked
// as not kept.
func (s *Service) keep(ctx context.Context, f *turnFiles, attached []*attachment) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for _, a := range attached {
		switch {
		case f.store == nil:
			a.Digest = ""
		case a.Digest != "" && !a.kept:
			group.Go(func() error { return f.store.Put(ctx, f.name(a.Digest), a.Type, a.data, s.fileExpiry()) })
		}
	}
	return group.Wait()
}

// keptFiles returns the attachments of a run whose files were kept before it began: those of a
// run that the queue does.
func keptFiles(all []session.File) (attached []*attachment) {
	for i, file := range all {
		a := &attachment{place: invokePlace(i), File: file, kept: true}
		if file.URI != "" {
			a.bucket, a.object, _ = files.ParseURI(file.URI) // it was parsed before it was stored
		}
		attached = append(attached, a)
	}
	return attached
}

// readKept reads the attachments that were kept, unless the model reads them by their address.
// Its errors are [*api.Error]: 422 for a file that is gone, or 503 if the bucket does not
// answer.
func (s *Service) readKept(ctx context.Context, f *turnFiles, attached []*attachment) error {
	if f.store == nil || s.Files.ByAddress {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, a := range attached {
		if !a.kept || a.Digest == "" {
			continue
		}
		group.Go(func() error {
			reading, cancel := context.WithTimeout(ctx, storeTimeout)
			defer cancel()
			mediaType, data, err := f.store.Get(reading, f.name(a.Digest), s.Files.MaxBytes)
			switch {
			case errors.Is(err, files.ErrNotFound), err == nil && files.Digest(mediaType, data) != a.Digest:
				return api.Invalid(a.place.path, "is no longer there")
			case err != nil:
				return api.Fail(api.SessionStoreUnavailable, err)
			}
			a.data = data
			return nil
		})
	}
	return group.Wait()
}

// fileExpiry returns when a file stored or extended now expires: half a TTL after the
// session would, because it is extended at most twice in a TTL. See extendFiles.
func (s *Service) fileExpiry() time.Time { return s.Now().Add(s.Files.TTL + s.Files.TTL/2) }

// extendFiles moves the expiry of a session's files, if a turn is the first one in its
// half of the session's time to live, counted from the session's beginning. So files
// outlive their session by half a time to live at most, and hardly any turn has to ask
// for the list of them. It works until the function that it returns is called. A turn finds
// files that expire one and a half TTL after its half began at the earliest, which is a TTL
// after the turn or later: they never expire before the session. The caller waits before it
// answers, since an instance has CPU only while a request is open.
func (s *Service) extendFiles(ctx context.Context, before *session.Session) (wait func()) {
	half, now := s.Files.TTL/2, s.Now()
	if s.Files.Store == nil || !before.Exists() || half <= 0 ||
		now.Sub(before.CreatedAt)/half == before.UpdatedAt.Sub(before.CreatedAt)/half {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := detach(ctx, storeTimeout)
		defer cancel()
		if err := s.Files.Store.Extend(ctx, sessionPrefix(before.Key), s.fileExpiry()); err != nil {
			s.Log.WarnContext(ctx, "Files of a session could not be extended; the next half of its time to live tries again.",
				"error", err.Error(), "request_id", api.RequestID(ctx), "session_id", before.Key.Hash())
		}
	}()
	return func() { <-done }
}

// deleteFiles removes the files whose names begin with prefix.
func (s *Service) deleteFiles(ctx context.Context, prefix string) error {
	if s.Files.Store == nil {
		return nil
	}
	if err := s.Files.Store.Delete(ctx, prefix); err != nil {
		return fmt.Errorf("deleting files: %w", errors.Join(err, session.ErrUnavailable))
	}
	return nil
}

// turnFiles are the files of a turn while it runs. Only the turn's goroutine uses them, except
// for key, store, tools and out, which serve showToolFiles in the goroutines of tools.
type turnFiles struct {
	key    session.Key
	store  FileStore               // nil: the turn's files are not kept
	past   int                     // tokens of the files in the history
	blobs  map[string]*genai.Blob  // contents by address, of files that the model cannot or need not read by it
	known  map[string]session.File // by address
	stored []session.File          // that the turn's contents refer to, in order
	tools  *tool.Files             // made by tools
	out    *output                 // that shows the files of the answer
}

// newTurnFiles returns the files of a turn that has none yet.
func newTurnFiles(key session.Key, store FileStore, limit int64, out *output) *turnFiles {
	return &turnFiles{key: key, store: store, tools: tool.NewFiles(int(limit)), out: out}
}

// ofSubagent returns the files of an agent that runs within a tool call: what it makes
// is shown with the turn's answer.
func (f *turnFiles) ofSubagent() *turnFiles { return newTurnFiles(f.key, f.store, 0, f.out) }

// name returns the name that a file is kept under.
func (f *turnFiles) name(digest string) string { return sessionPrefix(f.key) + digest }

// refer makes a known and returns the part that refers to it. A file that is kept
// nowhere has an address that only this turn knows.
func (s *Service) refer(f *turnFiles, a *attachment) *genai.Part {
	uri := a.URI
	switch {
	case a.Digest != "":
		uri = f.store.URI(f.name(a.Digest))
	case uri == "":
		uri = "turn:" + strconv.Itoa(len(f.known))
	}
	f.addKnown(uri, a.File)
	if a.data != nil && (a.URI == "" || !s.Files.ByAddress) {
		f.addBlob(uri, &genai.Blob{Data: a.data, MIMEType: a.Type})
	}
	return &genai.Part{FileData: &genai.FileData{FileURI: uri, MIMEType: a.Type}}
}

func (f *turnFiles) addKnown(uri string, file session.File) {
	if f.known == nil {
		f.known = map[string]session.File{}
	}
	f.known[uri] = file
}

// addBlob sends content with the turn's model calls, in the place of its address.
func (f *turnFiles) addBlob(uri string, content *genai.Blob) {
	if f.blobs == nil {
		f.blobs = map[string]*genai.Blob{}
	}
	f.blobs[uri] = content
}

// add takes in that a content was added to the turn.
func (f *turnFiles) add(content *genai.Content) {
	for _, p := range content.Parts {
		if p.FileData != nil {
			f.stored = append(f.stored, f.known[p.FileData.FileURI])
		}
	}
}

// tokens returns the tokens of all files in a prompt.
func (f *turnFiles) tokens() int { return min(f.past+tokensOf(f.stored), math.MaxInt32) }

// count replaces the estimates by a model's own count of all files in a prompt. A model counts
// all files together, so each estimate is scaled alike. Later turns weigh files by what is
// stored here.
func (f *turnFiles) count(counted int64) {
	estimated := f.tokens()
	if counted <= 0 || estimated == 0 {
		return
	}
	factor := float64(counted) / float64(estimated)
	scale := func(n int) int { return int(math.Ceil(float64(n) * factor)) }
	f.past = scale(f.past)
	for i := range f.stored {
		f.stored[i].Tokens = scale(f.stored[i].Tokens)
	}
	for uri, known := range f.known {
		known.Tokens = scale(known.Tokens)
		f.known[uri] = known
	}
}

// takeFiles keeps the files in a model's content and returns them, and the content with
// references in their place. Files that cannot be kept go out with this answer only.
func (s *Service) takeFiles(ctx context.Context, f *turnFiles, content *genai.Content) ([]*attachment, *genai.Content) {
	if content == nil || !slices.ContainsFunc(content.Parts, isInline) {
		return nil, content
	}
	var made []*attachment
	byPart := map[int]*attachment{}
	for i, p := range content.Parts {
		if !isInline(p) {
			continue
		}
		a := s.madeFile(p.InlineData.DisplayName, p.InlineData.MIMEType, p.InlineData.Data)
		byPart[i] = a
		if p.Thought { // what the model drew while it thought
			a.Digest = ""
			continue
		}
		made = append(made, a)
	}
	s.keepMade(ctx, f, made)
	referring := &genai.Content{Role: content.Role, Parts: slices.Clone(content.Parts)}
	for i, a := range byPart {
		p := *content.Parts[i] // with its signature
		p.InlineData, p.FileData = nil, s.refer(f, a).FileData
		referring.Parts[i] = &p
	}
	return made, referring
}

func isInline(p *genai.Part) bool { return p.InlineData != nil && len(p.InlineData.Data) > 0 }

// showToolFiles keeps and shows the files that tools have made since the last call.
func (s *Service) showToolFiles(ctx context.Context, f *turnFiles) {
	var made []*attachment
	for _, file := range f.tools.Take() {
		made = append(made, s.madeFile(file.Name, file.Type, file.Data))
	}
	s.keepMade(ctx, f, made)
	f.show(made)
}

// show adds files to the answer.
func (f *turnFiles) show(made []*attachment) {
	for _, a := range made {
		f.out.add(a.part(f.key.ID))
	}
}

// keepMade is keep for files of an answer: what was made is worth more than its storage.
func (s *Service) keepMade(ctx context.Context, f *turnFiles, made []*attachment) {
	if err := s.keep(ctx, f, made); err != nil {
		s.Log.WarnContext(ctx, "Files of an answer could not be kept; they go out with it only.",
			"error", err.Error(), "request_id", api.RequestID(ctx), "session_id", f.key.Hash())
		for _, a := range made {
			a.Digest = ""
		}
	}
}

// forget removes the files of a turn that is not stored, and whose session does not
// exist. Only then: files are named by their content, and another turn of a session may have
// the same one.
func (s *Service) forget(ctx context.Context, f *turnFiles) {
	if f.store == nil {
		return
	}
	ctx, cancel := detach(ctx, storeTimeout)
	defer cancel()
	for _, file := range f.known {
		if file.Digest == "" {
			continue
		}
		if err := f.store.Delete(ctx, f.name(file.Digest)); err != nil {
			s.Log.WarnContext(ctx, "A file of a turn that was not stored could not be deleted; it expires by itself.",
				"error", err.Error(), "request_id", api.RequestID(ctx), "session_id", f.key.Hash())
			return
		}
	}
}

// madeFile returns the attachment for a file of the model or a tool. Their types are
// not limited to those that requests may carry. A type that is none becomes bytes without a
// meaning, since it is a header where the file is downloaded.
func (s *Service) madeFile(name, declared string, data []byte) *attachment {
	mediaType, err := files.Normalize(declared)
	if err != nil {
		mediaType = "application/octet-stream"
	}
	if files.CheckName(name) != nil {
		name = ""
	}
	return &attachment{data: data, File: session.File{
		Name: name, Type: mediaType, Bytes: int64(len(data)), Digest: files.Digest(mediaType, data),
		Tokens: files.Tokens(mediaType, data, s.Files.HighResolution), Answer: true,
	}}
}

// part returns the part of the answer that shows a file.
func (a *attachment) part(sessionID string) session.Part {
	p := session.Part{Kind: session.KindFile, Name: a.Name, Type: a.Type}
	if a.Digest != "" {
		p.URI = filePath(sessionID, a.Digest)
	} else {
		p.Data = a.data
	}
	return p
}

// note is what a model reads in the place of a file. The name is in quotes, as JSON has it, so
// that it cannot end the note.
func note(f session.File) string {
	name := ""
	if f.Name != "" {
		name = " named " + encode(f.Name)
	}
	return fmt.Sprintf("[A file of the type %s%s was here, %d bytes.]", f.Type, name, f.Bytes)
}

// hasFiles reports whether contents refer to files. Within a text the quotes would be
// escaped.
func hasFiles(contents []byte) bool { return bytes.Contains(contents, []byte(`"fileData":{`)) }

// tokensOf returns the tokens of files.
func tokensOf(all []session.File) (tokens int) {
	for _, f := range all {
		tokens = min(tokens+max(f.Tokens, 0), math.MaxInt32)
	}
	return tokens
}

// eachFile calls replace for the parts of contents that refer to files, in order, and
// returns the contents with what it has made of them. Parts stay maps: members that the SDK's
// type does not have are kept.
func eachFile(contents json.RawMessage, replace func(i int, part map[string]any)) (json.RawMessage, error) {
	list, err := model.DecodeContents(contents)
	if err != nil {
		return nil, err
	}
	i := 0
	for _, content := range list {
		for _, part := range content.Parts {
			if _, ok := part["fileData"]; ok {
				replace(i, part)
				i++
			}
		}
	}
	return json.Marshal(list)
}

// noteFile replaces a part that refers to a file by a note. A part without an entry becomes
// one, too: nothing is known of what it refers to.
func noteFile(all []session.File, i int, part map[string]any) {
	f := session.File{Type: "unknown"}
	if i < len(all) {
		f = all[i]
	}
	delete(part, "fileData")
	part["text"] = note(f)
}

// withoutFiles returns contents with notes in the place of files.
func withoutFiles(contents json.RawMessage, all []session.File) (json.RawMessage, error) {
	return eachFile(contents, func(i int, part map[string]any) { noteFile(all, i, part) })
}

// pastFiles are the files of earlier turns, by the place of the turn in the history. Most
// turns have none.
type pastFiles []placedFiles

// placedFiles are the files of one turn.
type placedFiles struct {
	turn  int
	files []session.File
}

func (p pastFiles) add(turn int, files []session.File) pastFiles {
	return append(p, placedFiles{turn, files})
}

// reverse numbers the turns from the other end.
func (p pastFiles) reverse(turns int) {
	for i := range p {
		p[i].turn = turns - 1 - p[i].turn
	}
}

// sendable makes the contents of earlier turns what the model can read: a file that it
// cannot read becomes a note. Files that it reads by their address stay as they are; if
// it reads no addresses, the contents of the newest files are read into f, up to the
// bound of a request.
func (s *Service) sendable(ctx context.Context, f *turnFiles, earlier *earlierTurns) error {
	left := s.Files.MaxBytes
	for _, of := range earlier.files { // the newest first
		var err error
		before := promptBytes(earlier.turns[of.turn])
		earlier.turns[of.turn], err = eachFile(earlier.turns[of.turn], func(i int, part map[string]any) {
			if i >= len(of.files) || !s.shows(ctx, f, of.files[i], addressOf(part), &left) {
				noteFile(of.files, i, part)
				return
			}
			f.past = min(f.past+max(of.files[i].Tokens, 0), math.MaxInt32)
		})
		if err != nil {
			return err
		}
		earlier.bytes += promptBytes(earlier.turns[of.turn]) - before
	}
	return nil
}

// addressOf returns the address that a part refers to.
func addressOf(part map[string]any) string {
	data, _ := part["fileData"].(map[string]any)
	uri, _ := data["fileUri"].(string)
	return uri
}

// shows is readable for a file of an earlier turn: what fails to be read is not shown.
func (s *Service) shows(ctx context.Context, f *turnFiles, file session.File, uri string, left *int64) bool {
	ok, err := s.readable(ctx, f, file, uri, left)
	if err != nil {
		s.Log.WarnContext(ctx, "A file of an earlier turn could not be read; the model gets a note.",
			"error", err.Error(), "request_id", api.RequestID(ctx), "session_id", f.key.Hash())
	}
	return ok
}

// reopenFiles makes the files of the steps that a run goes on from what the model can read,
// and notes of those that are gone or were kept nowhere. Unlike files of earlier turns, the run
// is about them: while the bucket does not answer it cannot go on, and the error is 503.
func (s *Service) reopenFiles(ctx context.Context, g *generation) error {
	f, kept, left := g.files, g.files.stored, s.Files.MaxBytes
	f.stored = nil
	i, noted := 0, false
	for _, content := range g.contents {
		for _, p := range content.Parts {
			if p.FileData == nil {
				continue
			}
			file := session.File{Type: p.FileData.MIMEType} // of a checkpoint without files
			if i < len(kept) {
				file = kept[i]
			}
			i++
			ok, err := s.readable(ctx, f, file, p.FileData.FileURI, &left)
			switch {
			case err != nil && !errors.Is(err, files.ErrNotFound) && !errors.Is(err, errOtherContent):
				return api.Fail(api.SessionStoreUnavailable, errors.Join(err, session.ErrUnavailable))
			case !ok:
				*p, noted = genai.Part{Text: note(file)}, true
				continue
			}
			f.addKnown(p.FileData.FileURI, file)
			f.stored = append(f.stored, file)
		}
	}
	if !noted {
		return nil
	}
	encoded, err := json.Marshal(g.contents)
	if err != nil {
		return api.Fail(api.Internal, err)
	}
	g.encoded = encoded[:len(encoded)-1]
	return nil
}

// errOtherContent: an object is not what its name says.
var errOtherContent = errors.New("its content does not match its name")

// readable reports whether the model can read the file at an address, for which its content
// may have to be read into f. An address in stored contents is believed only if it is the one
// that the turn's entry names, under this session's prefix or in a bucket that is still
// configured.
func (s *Service) readable(ctx context.Context, f *turnFiles, file session.File, uri string, left *int64) (bool, error) {
	bucket, object, err := files.ParseURI(uri)
	if err != nil {
		return false, nil
	}
	var read func(context.Context) (string, []byte, error)
	switch name := f.name(file.Digest); {
	case file.Digest != "" && f.store != nil && uri == f.store.URI(name):
		read = func(ctx context.Context) (string, []byte, error) { return f.store.Get(ctx, name, *left) }
	case file.URI == uri && slices.Contains(s.Files.Buckets, bucket):
		read = func(ctx context.Context) (string, []byte, error) { return s.Files.Read(ctx, bucket, object, *left) }
	default:
		return false, nil // the bucket is no longer configured
	}
	if s.Files.ByAddress || f.blobs[uri] != nil {
		return true, nil
	}
	if file.Bytes > *left {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	_, content, err := read(ctx)
	if err == nil && files.Digest(file.Type, content) != file.Digest && file.Digest != "" {
		err = errOtherContent
	}
	if err != nil {
		return false, err
	}
	*left -= int64(len(content))
	f.addBlob(uri, &genai.Blob{Data: content, MIMEType: file.Type})
	return true, nil
}

// newRoom returns the bound on the memory that bodies with files take on an instance, by MiB
// of their size: each takes several times as much while it is decoded and sent on.
func newRoom() *drain.Places {
	// GOMEMLIMIT, or 1 GiB where it is not set. The least lets a small instance take the files
	// of one request: with a quarter of the places reserved, maxHeld must be in the rest.
	const fromLimit, least = 8, (maxHeld*4 + 2) / 3 // an eighth of the memory
	limit := garbage.MemoryLimit()
	if limit == math.MaxInt64 {
		limit = 1 << 30
	}
	return drain.NewPlaces(int(max(limit/fromLimit>>20, least)))
}

// maxHeld bounds what one request takes of the room: the SDK's body of a page may be
// longer, but what is passed over is not kept. In MiB.
const maxHeld = 16

// A memoryClaim is what one request takes of the room. It is used by one goroutine.
type memoryClaim struct {
	room  *drain.Places
	owner session.Owner
	held  int
}

// take takes a place for one more MiB. The error is 503 overloaded.
func (h *memoryClaim) take() error {
	if h.held == maxHeld {
		return nil
	}
	if !h.room.Take(h.owner) {
		return api.Fail(api.Overloaded, nil)
	}
	h.held++
	return nil
}

// leave leaves all places.
func (h *memoryClaim) leave() {
	for ; h.held > 0; h.held-- {
		h.room.Leave(h.owner)
	}
}
