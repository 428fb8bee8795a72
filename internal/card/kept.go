package card

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// kept is what the card's part knows from boot to boot, on the data partition, readable for root alone.
type kept struct {
	// Settings are the last good ones, without secrets; Ordinary is the rest of the last good pibox.toml.
	Settings Settings `json:"settings"`
	Ordinary string   `json:"ordinary"`
	// Key opens the Wi-Fi of that name.
	Key wifiKey `json:"key"`
	// Password of the first administrator, until the account is there; Passphrase of a backup, until it is restored.
	Password   string `json:"password,omitempty"`
	Passphrase string `json:"passphrase,omitempty"`
	// Blank is what is being taken from a file on the card.
	Blank blank `json:"blank"`
	// Recover is the last order for a new password.
	Recover order `json:"recover"`
}

// order is given by a file on the card, which Stamp tells from another one.
type order struct {
	ID    string `json:"id,omitempty"`
	Stamp string `json:"stamp,omitempty"`
}

func (c *Card) keptPath() string { return filepath.Join(c.Data, "card", "state.json") }

// load reads what is kept. A file that can not be read counts as none, and is told.
func (c *Card) load() (k kept, err error) {
	k.Settings = Defaults()
	raw, err := read(c.keptPath())
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &k)
	}
	if err != nil {
		return kept{Settings: Defaults()}, fmt.Errorf("what the box kept of its settings is damaged: write the Wi-Fi's password into %s again (%w)", FileName, err)
	}
	return k, nil
}

func (c *Card) save(k kept) error {
	for _, secret := range k.Settings.secrets() {
		*secret = ""
	}
	raw, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.keptPath()), 0o700); err != nil {
		return err
	}
	if err := syncDir(c.Data); err != nil {
		return err
	}
	return c.replaceChanged(c.keptPath(), append(raw, '\n'), 0o600)
}
