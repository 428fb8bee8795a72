package card

import (
	"encoding/hex"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"pibox/internal/config"
)

// Settings are what pibox.toml on the card can say beside the ordinary configuration.
type Settings struct {
	Domain        string        `toml:"domain" kind:"domain or none" doc:"The family's domain, such as miller.example. It is a part of everybody's address, so choose it before the first start. Empty: the box's name in the network, pibox.local."`
	Hostname      string        `toml:"hostname" doc:"The box's name in the network: computers find it as NAME.local."`
	TimeZone      string        `toml:"time_zone" doc:"Where the box is, such as Europe/Berlin or America/New_York."`
	Administrator Administrator `toml:"administrator" doc:"Who looks after the box. The account is made at the first start."`
	WiFi          WiFi          `toml:"wifi" doc:"Without a network cable. With one, nothing is needed here."`
	Restore       Restore       `toml:"restore" doc:"A new card that begins with a backup: put the file of 'pibox backup' (its name ends with .age or .pibox) beside this one, or on a USB stick."`
}

// Administrator is the first one.
type Administrator struct {
	Name     string `toml:"name" doc:"The part of the address before the @."`
	Password string `toml:"password" doc:"Empty: the box makes one that works for the first login, and shows it in pibox-status.txt beside this file. One that you write here is taken from this file at the next start."`
}

// WiFi is the wireless network.
type WiFi struct {
	SSID     string `toml:"ssid" doc:"The name of the Wi-Fi, exactly as it is written on the router."`
	Password string `toml:"password" doc:"Its password. It is taken from this file at the next start, and kept in the box. Leave it empty to keep the one that the box has."`
	Country  string `toml:"country" doc:"The country in which the box is, with two letters: DE, AT, CH, FR, GB, US. The law of the country says which channels may be used; without it there is no Wi-Fi."`
	Hidden   bool   `toml:"hidden" doc:"true for a Wi-Fi that does not tell its name."`
	Open     bool   `toml:"open" doc:"true for a Wi-Fi without a password."`
	WPA3     bool   `toml:"wpa3" doc:"true for a Wi-Fi that takes WPA3 only."`
}

// Restore is about a backup.
type Restore struct {
	Passphrase string `toml:"passphrase" doc:"The pass phrase of the backup, or its age identity (AGE-SECRET-KEY-…). It is taken from this file at the next start, and forgotten when the backup is restored."`
}

// Defaults are the settings of a card without a file.
func Defaults() Settings {
	return Settings{Hostname: "pibox", Administrator: Administrator{Name: "admin"}}
}

// secrets are the keys whose values must not stay on the card.
func (s *Settings) secrets() map[string]*string {
	return map[string]*string{
		"wifi.password": &s.WiFi.Password, "administrator.password": &s.Administrator.Password, "restore.passphrase": &s.Restore.Passphrase,
	}
}

// Check implements config.Checker.
func (s *Settings) Check(r config.Reporter) {
	s.Hostname = strings.ToLower(s.Hostname)
	if !regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`).MatchString(s.Hostname) {
		r.Add("hostname", "%q is no name for a computer: up to 63 letters from a to z, digits and hyphens", s.Hostname)
	}
	if s.TimeZone != "" && !regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$`).MatchString(s.TimeZone) {
		r.Add("time_zone", "%q is no time zone, such as Europe/Berlin", s.TimeZone)
	}
	if s.Domain != "" && r.Written("domains") {
		r.Add("domain", "there are domains, too: write one of the two")
	}
	if name := s.Administrator.Name; name == "" || len(name) > 100 || strings.ContainsAny(name, "@/ \"&'<>:") || !utf8.ValidString(name) {
		r.Add("administrator.name", "%q can not be the first part of an address: letters, digits, dots, hyphens and underscores, without the @ and what follows", name)
	}
	s.WiFi.check(r)
	for _, key := range []string{"data_dir", "admin"} {
		if r.Written(key) {
			r.Add(key, "is fixed on the card")
		}
	}
}

func (w *WiFi) check(r config.Reporter) {
	if w.SSID == "" {
		if w.Password != "" || w.Country != "" || w.Hidden || w.Open || w.WPA3 {
			r.Add("wifi", "the name of the Wi-Fi (ssid) is missing")
		}
		return
	}
	if len(w.SSID) > 32 {
		r.Add("wifi.ssid", "a Wi-Fi's name has at most 32 bytes, this one has %d", len(w.SSID))
	}
	w.Country = strings.ToUpper(w.Country)
	switch {
	case w.Country == "":
		r.Add("wifi", "the country is missing, such as country = \"DE\": without it no Wi-Fi may be used")
	case w.Country == "UK":
		r.Add("wifi.country", "the United Kingdom is GB")
	case !slices.Contains(strings.Fields(countries), w.Country):
		r.Add("wifi.country", "%q is no country with two letters, such as DE, FR, GB or US", w.Country)
	}
	if w.Open {
		if w.Password != "" {
			r.Add("wifi.open", "a Wi-Fi with a password is not open")
		}
		return
	}
	if w.Password != "" {
		if err := passwordOK(w.Password, w.WPA3); err != nil {
			r.Add("wifi.password", "%v", err)
		}
	}
}

// passwordOK tells whether it can be a pass phrase of WPA2 (IEEE 802.11-2020 J.4.1: 8 to 63 characters of ASCII), or its key in hexadecimal digits.
// WPA3 sets no such limits.
func passwordOK(p string, wpa3 bool) error {
	if wpa3 {
		if len(p) > 128 {
			return fmt.Errorf("a password of a Wi-Fi has at most 128 bytes")
		}
		return nil
	}
	if _, err := hex.DecodeString(p); err == nil && len(p) == 64 {
		return nil
	}
	for _, r := range p {
		if r < ' ' || r > '~' {
			return fmt.Errorf("a password of a Wi-Fi has only letters without accents, digits and signs")
		}
	}
	if len(p) < 8 || len(p) > 63 {
		return fmt.Errorf("a password of a Wi-Fi has 8 to 63 characters, this one has %d", len(p))
	}
	return nil
}

// countries are the officially assigned codes of ISO 3166-1.
const countries = `AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM
CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN
HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN
MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE
SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA
ZM ZW`

const exampleIntro = "The settings of your family's chat box. Nothing here has to be changed: without it the box is pibox.local in your network, and" +
	" pibox-status.txt beside this file tells how to log in. To change a line, take the # at its beginning away, and start the box again." +
	" What is wrong here is told in pibox-status.txt. All other keys of pibox's configuration can stand here, too."

// Example writes the file that lies on a new card: everything in it is a comment. Its lines end as Windows' editors want it.
func Example(w io.Writer) error {
	ordinary, mine := reflect.TypeFor[config.Config](), reflect.TypeFor[Settings]()
	var fields []reflect.StructField
	for _, name := range []string{"Family", "Language"} {
		f, _ := ordinary.FieldByName(name)
		fields = append(fields, reflect.StructField{Name: f.Name, Type: f.Type, Tag: f.Tag})
	}
	for i := range mine.NumField() {
		f := mine.Field(i)
		fields = append(fields, reflect.StructField{Name: f.Name, Type: f.Type, Tag: f.Tag})
	}
	v := reflect.New(reflect.StructOf(fields)).Elem()
	v.FieldByName("Language").SetString(config.Default().Language)
	defaults := reflect.ValueOf(Defaults())
	for i := range mine.NumField() {
		v.FieldByName(mine.Field(i).Name).Set(defaults.Field(i))
	}
	var b strings.Builder
	if err := config.ExampleOf(&b, exampleIntro, v.Interface()); err != nil {
		return err
	}
	_, err := io.WriteString(w, strings.ReplaceAll(b.String(), "\n", "\r\n"))
	return err
}

// Check tells the mistakes of such a file.
func Check(path, text string, now time.Time) config.Problems {
	return parseText(path, text, now).file.Problems
}

// FileName is the name of the settings on the card; Windows' editor may have added to it.
const FileName = "pibox.toml"
