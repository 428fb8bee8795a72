package disco

import (
	"crypto"
	"errors"
	"slices"
	"testing"

	"pibox/internal/xmpp"
	"pibox/internal/xmpp/frame"
)

func parse(t testing.TB, inside string) Info {
	t.Helper()
	el, err := frame.Parse([]byte("<query xmlns='"+NSInfo+"'>"+inside+"</query>"), xmpp.NSClient, frame.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return parseInfo(el.Node())
}

const (
	sha256Exodus = "Wr6IGEKhx6b9627gBmi/cCmpxXBc/GYq5zWuYfWGWoc="
	exodus       = `<identity category='client' name='Exodus 0.9.1' type='pc'/>
		<feature var='http://jabber.org/protocol/muc'/><feature var='http://jabber.org/protocol/disco#items'/>
		<feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#info'/>`
	psi = `<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/><identity xml:lang='el' category='client' name='Ψ 0.11' type='pc'/>
		<feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#info'/>
		<feature var='http://jabber.org/protocol/disco#items'/><feature var='http://jabber.org/protocol/muc'/>
		<x xmlns='jabber:x:data' type='result'>
			<field var='software_version'><value>0.11</value></field>
			<field var='ip_version' type='text-multi'><value>ipv6</value><value>ipv4</value></field>
			<field var='os'><value>Mac</value></field><field var='os_version'><value>10.5.1</value></field>
			<field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>
			<field var='software'><value>Psi</value></field>
		</x>`
)

// XEP-0115 §5.2 and §5.3; the order of what came does not matter.
func TestVerOfTheSpecification(t *testing.T) {
	for inside, want := range map[string]string{exodus: "QgayPKawpkPSDYmwT/WM94uAlu0=", psi: "q07IKJEyjvHSyhy//CH0CxmKi8w="} {
		info := parse(t, inside)
		if got := info.Ver(crypto.SHA1); got != want {
			t.Errorf("ver %s instead of %s", got, want)
		}
		if err := info.check(); err != nil {
			t.Error(err)
		}
	}
}

// The same example by another function; from: printf %s 'client/pc//Exodus 0.9.1<…' | openssl dgst -sha256 -binary | base64
func TestVerBySHA256(t *testing.T) {
	h, ok := hashOf("sha-256")
	if got := parse(t, exodus).Ver(h); !ok || got != sha256Exodus {
		t.Errorf("ver %s", got)
	}
	for _, weak := range []string{"md5", "md2", "SHA-1", ""} {
		if _, ok := hashOf(weak); ok {
			t.Errorf("%q verifies", weak)
		}
	}
}

func TestCheck(t *testing.T) {
	const id = "<identity category='client' type='pc'/>"
	form := func(fields string) string { return id + "<x xmlns='jabber:x:data' type='result'>" + fields + "</x>" }
	typed := func(typ, fields string) string {
		return form("<field var='FORM_TYPE' type='hidden'><value>" + typ + "</value></field>" + fields)
	}
	for _, c := range []struct {
		name, inside string
		want         error
	}{
		{"plain", id + "<feature var='a'/>", nil},
		{"two identities", id + "<identity category='client' type='pc' xml:lang='de'/>", nil},
		{"identity twice", id + id, errTwice},
		{"feature twice", id + "<feature var='a'/><feature var='b'/><feature var='a'/>", errTwice},
		{"form twice", typed("f", "") + typed("f", "")[len(id):], errTwice},
		{"two forms", typed("f", "") + typed("g", "")[len(id):], nil},
		{"FORM_TYPE with two values", form("<field var='FORM_TYPE' type='hidden'><value>a</value><value>b</value></field>"), errTwice},
		{"FORM_TYPE with one value twice", form("<field var='FORM_TYPE' type='hidden'><value>a</value><value>a</value></field>"), nil},
		{"form without FORM_TYPE, ignored", form("<field var='a'><value>x+notify</value></field>"), nil},
		{"FORM_TYPE not hidden, ignored", form("<field var='FORM_TYPE'><value>a</value></field><field var='x+notify'/>"), nil},
		{"no identity", "<feature var='client/pc//'/>", errAmbiguous},
		{"no type", "<identity category='http:' type='' xml:lang='jabber.org' name='protocol/muc'/>", errAmbiguous},
		{"slash in the type", "<identity category='client' type='pc/de'/>", errAmbiguous},
		{"feature that holds another", id + "<feature var='a&lt;b'/>", errAmbiguous},
		{"escaped twice is text", id + "<feature var='a&amp;lt;b'/>", nil},
		{"feature in a name", "<identity category='client' type='pc' name='a&lt;b'/>", errAmbiguous},
		{"hidden wish in FORM_TYPE", typed("x+notify", ""), errAmbiguous},
		{"hidden wish as a field", typed("f", "<field var='x+notify'/>"), errAmbiguous},
		{"hidden wish as a value", typed("f", "<field var='a'><value>x+notify</value></field>"), errAmbiguous},
		{"separator in a value", typed("f", "<field var='a'><value>1&lt;2</value></field>"), errAmbiguous},
	} {
		if err := parse(t, c.inside).check(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// The attack of XEP-0115 §8.3: the same verification string, but the wish to be notified moved into a form.
func TestPoisoned(t *testing.T) {
	honest := parse(t, exodus+"<feature var='http://jabber.org/protocol/tune'/><feature var='http://jabber.org/protocol/tune+notify'/>")
	poisoned := parse(t, exodus+`<x xmlns='jabber:x:data' type='result'>
		<field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/tune</value></field><field var='http://jabber.org/protocol/tune+notify'/></x>`)
	if honest.Ver(crypto.SHA1) != poisoned.Ver(crypto.SHA1) {
		t.Fatal("this is not the attack")
	}
	if honest.check() != nil || poisoned.check() == nil {
		t.Error("the poisoned answer would be believed")
	}
}

func TestNotified(t *testing.T) {
	info := parse(t, "<feature var='b+notify'/><feature var='+notify'/><feature var='a'/><feature var='a+notify'/><feature var='b+notify'/>")
	if got := info.notified(); !slices.Equal(got, []string{"a", "b"}) {
		t.Error(got)
	}
}

func TestCache(t *testing.T) {
	c := newCache(2)
	a, b, d := subject{ver: "a"}, subject{ver: "b"}, subject{ver: "d"}
	c.put(a, []string{"x"})
	c.put(b, nil)
	c.put(a, []string{"ignored"})
	c.put(d, nil)
	if _, ok := c.get(b); ok || len(c.at) != 2 || c.recent.Len() != 2 {
		t.Error("the least recently used stayed")
	}
	if nodes, ok := c.get(a); !ok || !slices.Equal(nodes, []string{"x"}) {
		t.Error(nodes, ok)
	}
}

// FuzzInfo: whatever an entity tells is read without harm, and what we would tell in its place reads as the same.
func FuzzInfo(f *testing.F) {
	f.Add(exodus)
	f.Add(psi)
	f.Add("<identity/><feature/><x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'/></x>")
	f.Fuzz(func(t *testing.T, inside string) {
		el, err := frame.Parse([]byte("<query xmlns='"+NSInfo+"'>"+inside+"</query>"), xmpp.NSClient, frame.Limits{})
		if err != nil {
			return
		}
		info := parseInfo(el.Node())
		ver := info.Ver(crypto.SHA1)
		if info.check() != nil {
			return
		}
		if again := parse(t, string(info.XML())).Ver(crypto.SHA1); again != ver {
			t.Errorf("%s tells %s, which has another ver", inside, info.XML())
		}
	})
}
