package card

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"pibox/internal/config"
)

func (c *Card) supplicantPath() string { return filepath.Join(c.Data, "etc", "wpa_supplicant.conf") }
func (c *Card) configPath() string     { return filepath.Join(c.Data, "etc", "pibox", "pibox.toml") }
func (c *Card) zonePath() string       { return filepath.Join(c.Data, "etc", "localtime") }

// apply makes what the system reads of the settings. Each file is made anew where it differs; none of them counts more than what is kept.
func (b *boot) apply(s Settings) {
	if err := b.Host.SetHostname(s.Hostname); err != nil {
		b.add("hostname", Degraded, fmt.Sprintf("the name %q could not be given to the box: %v", s.Hostname, err))
	}
	if !b.data {
		return
	}
	if s.WiFi.SSID == "" {
		b.try("wifi", b.disk.Remove(b.supplicantPath()))
	} else {
		b.try("wifi", b.replaceChanged(b.supplicantPath(), []byte(s.WiFi.supplicant(b.kept.Key)), 0o600))
	}
	b.try("time zone", b.zone(s.TimeZone))
	// /etc/pibox leads here: the server's unit needs it, also without a file in it.
	b.try("configuration", b.disk.Folder(filepath.Dir(b.configPath()), 0o755))
	b.try("configuration", b.configure(s.Domain))
}

// zone lets /etc/localtime, which leads here, lead on to the time zone.
func (b *boot) zone(name string) error {
	if name == "" {
		return b.disk.Remove(b.zonePath()) // UTC
	}
	target := filepath.Join(b.Zones, name)
	if info, err := os.Stat(target); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("%s: there is no time zone %q; the box shows its times in UTC", FileName, name)
	}
	if now, err := os.Readlink(b.zonePath()); err == nil && now == target {
		return nil
	}
	if err := b.disk.Folder(filepath.Dir(b.zonePath()), 0o755); err != nil {
		return err
	}
	return b.disk.Link(target, b.zonePath())
}

// ordinary is the part of the file that is the daemon's, without what is wrong in it; where anything is, the last good one.
func (b *boot) ordinary(src source) string {
	mine := Settings{}
	own := mine.keys()
	wrong := false
	for _, p := range src.file.Problems.Mistakes() {
		wrong = wrong || !slices.Contains(own, first(p.Key))
	}
	if wrong && b.kept.Ordinary != "" {
		return b.kept.Ordinary
	}
	tree := src.file.Tree
	for _, p := range src.file.Problems.Mistakes() {
		drop(tree, p.Key)
	}
	b.files(src, tree)
	return config.Text(tree)
}

// configure writes the daemon's configuration. None is written where there is nothing to say: then one counts that a restored backup brought.
func (b *boot) configure(domain string) error {
	text := b.kept.Ordinary
	if domain != "" && !regexp.MustCompile(`(?m)^"domains"`).MatchString(text) {
		text = config.Text(map[string]any{"domains": []any{domain}}) + text
	}
	path := b.configPath()
	for range 5 {
		f := config.ParseWith(path, text, b.Now(), &struct{}{})
		mistakes := f.Problems.Mistakes()
		if len(mistakes) == 0 {
			break
		}
		for _, p := range mistakes {
			b.add("configuration/"+p.Key, Degraded, words(p))
			drop(f.Tree, p.Key)
		}
		text = config.Text(f.Tree)
	}
	if text == "" {
		return b.disk.Remove(path)
	}
	return b.replaceChanged(path, []byte("# Made from "+FileName+" on the card's first partition at each boot: change it there.\n"+text), 0o644)
}

// keys are those of Settings.
func (s *Settings) keys() []string {
	return []string{"domain", "hostname", "time_zone", "administrator", "wifi", "restore"}
}

func first(key string) string {
	if i := strings.IndexAny(key, ".["); i >= 0 {
		return key[:i]
	}
	return key
}

// drop takes a key out of a tree; an entry of a list takes the whole list with it.
func drop(tree map[string]any, key string) {
	key, _, _ = strings.Cut(key, "[")
	parts := strings.Split(key, ".")
	for _, part := range parts[:len(parts)-1] {
		next, ok := tree[part].(map[string]any)
		if !ok {
			break
		}
		tree = next
		parts = parts[1:]
	}
	delete(tree, parts[0])
}

// files copies those beside pibox.toml that it names, such as certificates, to where the daemon may read them.
func (b *boot) files(src source, tree map[string]any) {
	moved := func(name any) any {
		s, ok := name.(string)
		if !ok || s == "" || filepath.IsAbs(s) {
			return name
		}
		to := filepath.Join(filepath.Dir(b.configPath()), filepath.Base(s))
		raw, err := read(filepath.Join(filepath.Dir(src.path), filepath.Clean("/"+s)))
		if err == nil {
			err = b.replaceChanged(to, raw, 0o640)
		}
		if err == nil {
			err = os.Chown(to, -1, b.gid)
		}
		if err != nil {
			b.add("file/"+s, Degraded, fmt.Sprintf("%s names %s, which can not be used: %v", filepath.Base(src.path), s, err))
		}
		return to
	}
	if s2s, ok := tree["s2s"].(map[string]any); ok {
		if list, ok := s2s["trust"].([]any); ok {
			list = slices.Clone(list)
			for i := range list {
				list[i] = moved(list[i])
			}
			s2s = maps.Clone(s2s)
			s2s["trust"], tree["s2s"] = list, s2s
		}
	}
	if t, ok := tree["tls"].(map[string]any); ok {
		if list, ok := t["certificate"].([]map[string]any); ok {
			for _, cert := range list {
				for _, key := range []string{"chain", "key"} {
					if name, ok := cert[key]; ok {
						cert[key] = moved(name)
					}
				}
			}
		}
	}
}
