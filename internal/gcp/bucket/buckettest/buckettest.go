// Package buckettest stands in for Cloud Storage: its JSON API on the wire, as far as
// package bucket uses it, with objects in memory.
//
// It is held to an independent server by [TestBucket], which runs against both. What that
// server cannot be asked for is here: failures ([Server.Fail]), short pages, and the number of
// calls.
package buckettest

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// An Object is what the stand-in keeps.
type Object struct {
	MediaType  string
	Encoding   string // of Data, as Content-Encoding names it
	Data       []byte
	CustomTime time.Time
}

// A Server is a stand-in for the service.
type Server struct {
	// Endpoint is what STORAGE_EMULATOR_HOST is set to.
	Endpoint string

	mu      sync.Mutex
	objects map[string]Object // by bucket/name
	fail    func(r *http.Request) int
	calls   map[string]int // by method
	page    int
}

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	s := &Server{objects: map[string]Object{}, calls: map[string]int{}, page: 1000}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.Endpoint = server.Listener.Addr().String()
	return s
}

// Fail has f answer requests with the status that it returns, unless that is 0.
//
// f is called with the server's lock held: it must not call the server.
func (s *Server) Fail(f func(r *http.Request) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}

// Page sets the length of a page of a list.
func (s *Server) Page(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.page = n
}

// Put stores an object, by BUCKET/NAME.
func (s *Server) Put(path string, o Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[path] = o
}

// Objects returns what is stored, by BUCKET/NAME.
func (s *Server) Objects() map[string]Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.objects)
}

// Calls returns the number of requests by method.
func (s *Server) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.calls)
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[r.Method]++
	if s.fail != nil {
		if status := s.fail(r); status != 0 {
			refuse(w, status)
			return
		}
	}
	path := strings.TrimPrefix(strings.TrimPrefix(r.URL.EscapedPath(), "/upload"), "/storage/v1/b/")
	bucket, rest, _ := strings.Cut(path, "/o")
	name, err := url.PathUnescape(strings.TrimPrefix(rest, "/"))
	if err != nil || bucket == "" {
		refuse(w, http.StatusNotFound)
		return
	}
	key := bucket + "/" + name
	object, found := s.objects[key]
	switch {
	case r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/upload/"):
		s.insert(w, r, bucket)
	case r.Method == http.MethodGet && name == "":
		s.list(w, r, bucket)
	case !found:
		refuse(w, http.StatusNotFound)
	case r.Method == http.MethodGet && r.FormValue("alt") == "media":
		w.Header().Set("Content-Type", object.MediaType)
		if object.Encoding != "" {
			w.Header().Set("Content-Encoding", object.Encoding)
		}
		w.Header().Set("X-Goog-Hash", "crc32c="+checksum(object.Data))
		w.Header().Set("Content-Length", strconv.Itoa(len(object.Data)))
		_, _ = w.Write(object.Data)
	case r.Method == http.MethodPatch:
		var change struct {
			CustomTime time.Time `json:"customTime"`
		}
		if json.NewDecoder(r.Body).Decode(&change) != nil || change.CustomTime.Before(object.CustomTime) {
			refuse(w, http.StatusBadRequest)
			return
		}
		object.CustomTime = change.CustomTime
		s.objects[key] = object
		answer(w, map[string]any{"name": name})
	case r.Method == http.MethodDelete:
		delete(s.objects, key)
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse(w, http.StatusMethodNotAllowed)
	}
}

// insert stores the object of a multipart upload.
func (s *Server) insert(w http.ResponseWriter, r *http.Request, bucket string) {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || r.FormValue("uploadType") != "multipart" {
		refuse(w, http.StatusBadRequest)
		return
	}
	parts := multipart.NewReader(r.Body, params["boundary"])
	var meta struct {
		Name, ContentType, Crc32c string
		CustomTime                time.Time
	}
	head, err := parts.NextPart()
	if err != nil || json.NewDecoder(head).Decode(&meta) != nil {
		refuse(w, http.StatusBadRequest)
		return
	}
	media, err := parts.NextPart()
	if err != nil {
		refuse(w, http.StatusBadRequest)
		return
	}
	data, err := io.ReadAll(media)
	switch _, exists := s.objects[bucket+"/"+meta.Name]; {
	case err != nil || meta.Name == "" || meta.Crc32c != checksum(data):
		refuse(w, http.StatusBadRequest)
	case exists && r.FormValue("ifGenerationMatch") == "0":
		refuse(w, http.StatusPreconditionFailed)
	default:
		s.objects[bucket+"/"+meta.Name] = Object{MediaType: meta.ContentType, Data: data, CustomTime: meta.CustomTime}
		answer(w, map[string]any{"name": meta.Name})
	}
}

// list answers with a page of names, in order. The token of the next one is the last name of
// this one; Google's is opaque, and package bucket hands it back unread.
func (s *Server) list(w http.ResponseWriter, r *http.Request, bucket string) {
	var items []map[string]any
	next := ""
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		name, ok := strings.CutPrefix(key, bucket+"/")
		if !ok || !strings.HasPrefix(name, r.FormValue("prefix")) || name <= r.FormValue("pageToken") {
			continue
		}
		if len(items) == s.page {
			next = items[len(items)-1]["name"].(string)
			break
		}
		o := s.objects[key]
		items = append(items, map[string]any{"name": name, "contentType": o.MediaType, "size": strconv.Itoa(len(o.Data)), "timeCreated": "2026-11-27T00:00:00Z"})
	}
	answer(w, map[string]any{"items": items, "nextPageToken": next})
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

func refuse(w http.ResponseWriter, status int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": status, "message": http.StatusText(status)}})
}

func checksum(data []byte) string {
	sum := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}
