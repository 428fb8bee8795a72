package sasl

import (
	"strings"
	"testing"
)

func TestParseClientFirst(t *testing.T) {
	for _, tc := range []struct {
		message string
		want    clientFirst
	}{
		{"n,,n=user,r=abc", clientFirst{"n,,", "n=user,r=abc", 'n', "", "", "user", "abc"}},
		{"y,,n=user,r=abc", clientFirst{"y,,", "n=user,r=abc", 'y', "", "", "user", "abc"}},
		{"p=tls-exporter,,n=user,r=abc", clientFirst{"p=tls-exporter,,", "n=user,r=abc", 'p', "tls-exporter", "", "user", "abc"}},
		{"n,a=a=2Cb=3Dc,n=x=3Dy=2Cz,r=!~", clientFirst{"n,a=a=2Cb=3Dc,", "n=x=3Dy=2Cz,r=!~", 'n', "", "a,b=c", "x=y,z", "!~"}},
		{"n,,n==3D=2C,r=a", clientFirst{"n,,", "n==3D=2C,r=a", 'n', "", "", "=,", "a"}},
		{"n,,n=żółw 🐢,r=a=b,x=1", clientFirst{"n,,", "n=żółw 🐢,r=a=b,x=1", 'n', "", "", "żółw 🐢", "a=b"}},
	} {
		got, f := parseClientFirst(tc.message)
		if f != nil || got != tc.want {
			t.Errorf("%q: got %+v, %v", tc.message, got, f)
		}
	}
}

func TestParseClientFirstRefuses(t *testing.T) {
	for _, message := range []string{
		"", ",", ",,", "n", "n,", "n,,", "n,n=user,r=abc", ",,n=user,r=a", "x,,n=user,r=a", "nn,,n=user,r=a",
		"N,,n=user,r=a", "p,,n=user,r=a", "p=,,n=user,r=a", "p=tls_unique,,n=user,r=a", "p=ä,,n=user,r=a", "n=,,n=user,r=a", "y=x,,n=u,r=a",
		"n,b=x,n=user,r=a", "n,a=,n=user,r=a", "n,a,n=user,r=a", "n,a==2c,n=user,r=a", "n,a=x=,n=user,r=a",
		"n,,n=,r=a", "n,,n=user", "n,,n=user,r=", "n,,r=a,n=user", "n,,user,r=a", "n,,N=user,r=a",
		"n,,n=u=ser,r=a", "n,,n=u=2,r=a", "n,,n=u=2c,r=a", "n,,n=u=3d,r=a", "n,,n=u=41,r=a", "n,,n=us,er,r=a", "n,,n=user=,r=a",
		"n,,n=us\x00er,r=a", "n,,n=us\xffer,r=a", "n,,n=user,r=a b", "n,,n=user,r=a\x7f", "n,,n=user,r=ä", "n,,n=user,r=a\n",
		"n,,n=user,r=" + strings.Repeat("a", maxNonce+1), "n,,n=" + strings.Repeat("a", maxMessage) + ",r=a",
		"n,,m=1,n=user,r=a", "n,,n=user,m=1,r=a", "n,,n=user,r=a,m=1", "n,,n=user,r=a,", "n,,n=user,r=a,,", "n,,n=user,r=a,x", "n,,n=user,r=a,x=",
		"n,,n=user,r=a,1=x", "n,,n=user,r=a,r=b", "n,,n=user,r=a,n=root", "n,,n=user,r=a,xx=1", " n,,n=user,r=a",
	} {
		if got, f := parseClientFirst(message); f == nil {
			t.Errorf("%q: accepted as %+v", message, got)
		} else if f.Condition != MalformedRequest {
			t.Errorf("%q: %s", message, f.Condition)
		}
	}
}

func TestParseClientFinal(t *testing.T) {
	got, f := parseClientFinal("c=biws,r=abc,x=1=,y=2,p=AQID")
	if f != nil || got.withoutProof != "c=biws,r=abc,x=1=,y=2" || got.binding != "n,," || got.nonce != "abc" || string(got.proof) != "\x01\x02\x03" {
		t.Errorf("got %+v, %v", got, f)
	}
	for _, message := range []string{
		"", ",", ",,", "c=biws,r=abc", "c=biws,p=AQID", "r=abc,c=biws,p=AQID", "c=,r=abc,p=AQID", "c=biws,r=,p=AQID", "c=biws,r=abc,p=",
		"c=biws,r=abc,p=AQI", "c=biws,r=abc,p=AQI=\n", "c=biw\ns,r=abc,p=AQID", "c=bi ws,r=abc,p=AQID", "c=biws,r=abc,p=AQID,", "c=biws,r=abc,p=AQID,x=1",
		"c=biws,r=abc,p=AQID,p=AQID", "c=biws,r=abc,c=biws,p=AQID", "c=biws,r=abc,r=abc,p=AQID", "c=biws,r=abc,m=x,p=AQID", "c=biws,r=abc,,p=AQID",
		"c=biws,r=a\x00c,p=AQID", "c=biws,r=abc,x=\xff,p=AQID", "c=-_--,r=abc,p=AQID", "c=biws,r=abc,p=AQ==x", "m=1,c=biws,r=abc,p=AQID",
		"c=biws,r=abc,x=" + strings.Repeat("a", maxMessage) + ",p=AQID",
	} {
		if got, f := parseClientFinal(message); f == nil {
			t.Errorf("%q: accepted as %+v", message, got)
		} else if f.Condition != MalformedRequest {
			t.Errorf("%q: %s", message, f.Condition)
		}
	}
}

func escapeName(s string) string {
	return strings.NewReplacer("=", "=3D", ",", "=2C").Replace(s)
}

// What is accepted must mean exactly what was sent: rebuilt from its parts it is the message again.
func FuzzClientFirst(f *testing.F) {
	f.Add("n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL")
	f.Add("p=tls-exporter,a=juliet@example.com,n=x=3Dy=2Cz,r=abc,x=1")
	f.Add("y,,m=1,n=user,r=a")
	f.Fuzz(func(t *testing.T, message string) {
		c, failure := parseClientFirst(message)
		if failure != nil {
			return
		}
		flag := string(c.flag)
		if c.flag == 'p' {
			flag = "p=" + c.binding
		}
		authzid := ""
		if c.authzid != "" {
			authzid = "a=" + escapeName(c.authzid)
		}
		if header := flag + "," + authzid + ","; header != c.header {
			t.Errorf("header %q, rebuilt %q", c.header, header)
		}
		if c.header+c.bare != message {
			t.Errorf("%q + %q is not the message", c.header, c.bare)
		}
		bare := "n=" + escapeName(c.username) + ",r=" + c.nonce
		if rest, ok := strings.CutPrefix(c.bare, bare); !ok || rest != "" && rest[0] != ',' {
			t.Errorf("bare %q, rebuilt %q", c.bare, bare)
		}
		if c.username == "" || c.nonce == "" || strings.ContainsAny(c.username, "\x00") {
			t.Errorf("accepted %+v", c)
		}
	})
}

func FuzzClientFinal(f *testing.F) {
	f.Add("c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=")
	f.Add("c=biws,r=abc,x=1,p=AQID")
	f.Add("c=biws,r=abc,m=1,p=AQID")
	f.Fuzz(func(t *testing.T, message string) {
		c, failure := parseClientFinal(message)
		if failure != nil {
			return
		}
		if rebuilt := c.withoutProof + ",p=" + b64(string(c.proof)); rebuilt != message {
			t.Errorf("message %q, rebuilt %q", message, rebuilt)
		}
		if start := "c=" + b64(c.binding) + ",r=" + c.nonce; !strings.HasPrefix(c.withoutProof, start) {
			t.Errorf("%q does not begin with %q", c.withoutProof, start)
		}
	})
}

// Whatever a client sends, nobody is logged in without the password and nothing panics; a failure is final.
func FuzzExchange(f *testing.F) {
	f.Add(byte(0), "biwsbj1qdWxpZXQscj14", "Yz1iaXdzLHI9eCxwPUFBQUE=", "")
	f.Add(byte(1), "", "biwsbj1qdWxpZXQscj14", "Yz1iaXdzLHI9eCxwPUFBQUE=")
	f.Add(byte(2), "cD10bHMtZXhwb3J0ZXIsLG49anVsaWV0LHI9eA==", "=", "=")
	f.Fuzz(func(t *testing.T, mechanism byte, a, b, c string) {
		names := Mechanisms(true)
		s := mustServer(t, names[int(mechanism)%len(names)], fuzzConfig())
		failed := false
		for _, text := range []string{a, b, c} {
			reply, err := s.Next(text)
			if failed && err == nil {
				t.Error("a step after a failure")
			}
			failed = err != nil
			if reply.Done || s.Account() != "" {
				t.Errorf("logged in by %q %q %q", a, b, c)
			}
		}
	})
}

func fuzzConfig() Config {
	keys := Keys{Salt: []byte("salt"), Iterations: 1, StoredKey: make([]byte, 32), ServerKey: make([]byte, 32)}
	return Config{
		Lookup: func(username string) (Account, error) {
			return Account{Name: username, Known: true, Credentials: Credentials{SHA256: keys}}, nil
		},
		SameAccount: func(a, b string) bool { return a == b },
		Bindings:    []Binding{exporter()},
		Secret:      testSecret,
		Rand:        zeros{},
	}
}
