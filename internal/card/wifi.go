package card

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// wifiKey opens one Wi-Fi.
type wifiKey struct {
	SSID string `json:"ssid,omitempty"`
	PSK  string `json:"psk,omitempty"` // hexadecimal
	SAE  string `json:"sae,omitempty"` // WPA3 needs the password itself; hexadecimal
}

var errNoKey = errors.New("the password of the Wi-Fi is missing")

// key derives what is kept of a password, or takes what was kept of it before.
func (w WiFi) key(had wifiKey) (wifiKey, error) {
	name := hex.EncodeToString([]byte(w.SSID))
	switch {
	case w.SSID == "" || w.Open:
		return wifiKey{}, nil
	case w.Password == "" && had.SSID == name && w.WPA3 == (had.SAE != ""):
		return had, nil
	case w.Password == "":
		return had, errNoKey
	case w.WPA3:
		return wifiKey{SSID: name, SAE: hex.EncodeToString([]byte(w.Password))}, nil
	}
	if raw, err := hex.DecodeString(w.Password); err == nil && len(raw) == 32 {
		return wifiKey{SSID: name, PSK: hex.EncodeToString(raw)}, nil
	}
	raw, err := pbkdf2.Key(sha1.New, w.Password, []byte(w.SSID), 4096, 32) // IEEE 802.11-2020 J.4.1
	return wifiKey{SSID: name, PSK: hex.EncodeToString(raw)}, err
}

// supplicant is the configuration of wpa_supplicant. Names and secrets are hexadecimal: nothing that a person wrote is syntax there.
func (w WiFi) supplicant(k wifiKey) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Made from %s on the card at each boot.\nctrl_interface=DIR=/run/wpa_supplicant\nupdate_config=0\ncountry=%s\n", FileName, w.Country)
	fmt.Fprintf(&b, "network={\n\tssid=%s\n", hex.EncodeToString([]byte(w.SSID)))
	if w.Hidden {
		b.WriteString("\tscan_ssid=1\n")
	}
	switch {
	case w.Open:
		b.WriteString("\tkey_mgmt=NONE\n")
	case k.SAE != "":
		fmt.Fprintf(&b, "\tkey_mgmt=SAE\n\tieee80211w=2\n\tsae_password=%s\n", k.SAE)
	default:
		fmt.Fprintf(&b, "\tkey_mgmt=WPA-PSK WPA-PSK-SHA256\n\tieee80211w=1\n\tpsk=%s\n", k.PSK)
	}
	b.WriteString("}\n")
	return b.String()
}
