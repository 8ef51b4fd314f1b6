package access_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/access"
)

func TestParseIssuers(t *testing.T) {
	t.Parallel()
	common := []string{"app", "app-2"}
	tests := []struct {
		name      string
		list      string
		audiences []string
		loopback  bool
		want      []access.Issuer
		wantErr   string
	}{
		{
			name: "an issuer and its audience", list: "https://securetoken.google.com/p-1|p-1",
			want: []access.Issuer{{URL: "https://securetoken.google.com/p-1", Audiences: []string{"p-1"}}},
		},
		{
			name: "several, with claims and spaces", list: " https://a.example | x | hd=example.com | tier=a=b , https://b.example/|y",
			want: []access.Issuer{
				{URL: "https://a.example", Audiences: []string{"x"}, Claims: []access.Claim{{Name: "hd", Value: "example.com"}, {Name: "tier", Value: "a=b"}}},
				{URL: "https://b.example/", Audiences: []string{"y"}},
			},
		},
		{
			name: "without an audience, the common ones hold", list: "https://a.example,https://b.example||hd=example.com,https://c.example|own", audiences: common,
			want: []access.Issuer{
				{URL: "https://a.example", Audiences: common},
				{URL: "https://b.example", Audiences: common, Claims: []access.Claim{{Name: "hd", Value: "example.com"}}},
				{URL: "https://c.example", Audiences: []string{"own"}},
			},
		},
		{
			name: "loopback in development", list: "http://127.0.0.1:9000|app,http://[::1]:9000|app,http://LOCALHOST|app", loopback: true,
			want: []access.Issuer{
				{URL: "http://127.0.0.1:9000", Audiences: []string{"app"}},
				{URL: "http://[::1]:9000", Audiences: []string{"app"}},
				{URL: "http://LOCALHOST", Audiences: []string{"app"}},
			},
		},
		{name: "loopback elsewhere", list: "http://127.0.0.1:9000|app", wantErr: "entry 1: the issuer is not an https address"},
		{name: "plain http", list: "http://a.example|app", loopback: true, wantErr: "not an https address"},
		{name: "a host that only begins like loopback", list: "http://localhost.evil.example|app", loopback: true, wantErr: "not an https address"},
		{name: "no scheme", list: "accounts.google.com|app", wantErr: "not an https address"},
		{name: "no host", list: "https://|app", wantErr: "not an https address"},
		{name: "a user", list: "https://u:p@a.example|app", wantErr: "user, query or fragment"},
		{name: "a query", list: "https://a.example?x=1|app", wantErr: "user, query or fragment"},
		{name: "an empty fragment", list: "https://a.example#|app", wantErr: "user, query or fragment"},
		{name: "no audience anywhere", list: "https://a.example", wantErr: "no audience"},
		{name: "an empty common audience", list: "https://a.example", audiences: []string{""}, wantErr: "no audience"},
		{name: "a claim in the audience's place", list: "https://a.example|hd=example.com", audiences: common, wantErr: "a claim where the audience belongs"},
		{name: "a claim without a value", list: "https://a.example|app|hd=", wantErr: "name=value"},
		{name: "a claim without a name", list: "https://a.example|app|=x", wantErr: "name=value"},
		{name: "an empty claim", list: "https://a.example|app|", wantErr: "name=value"},
		{name: "an empty entry", list: "https://a.example|app,", wantErr: "entry 2: "},
		{name: "nothing", list: " ", wantErr: "no issuer"},
		{name: "all that is wrong is told", list: "x|app,https://a.example|app,https://b.example", wantErr: "entry 3: no audience"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := access.ParseIssuers(tt.list, tt.audiences, tt.loopback)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("issuers (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseIssuers(f *testing.F) {
	f.Add("https://a.example|app|hd=example.com,https://b.example", "app", true)
	f.Add("http://127.0.0.1:1|x", "", true)
	f.Fuzz(func(t *testing.T, list, audience string, loopback bool) {
		issuers, err := access.ParseIssuers(list, []string{audience}, loopback)
		if err != nil {
			return
		}
		for _, i := range issuers {
			if len(i.Audiences) == 0 || i.Audiences[0] == "" || !strings.HasPrefix(strings.ToLower(i.URL), "http") {
				t.Fatalf("accepted %+v", i)
			}
			if !loopback && !strings.HasPrefix(strings.ToLower(i.URL), "https://") {
				t.Fatalf("accepted %+v", i)
			}
		}
	})
}
