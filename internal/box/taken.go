package box

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"pibox/internal/admin"
	"pibox/internal/config"
	"pibox/internal/transfer"
)

// takenName, in the data folder, tells whose place this box took. It comes into its place with the box, so that it is there where that is.
const takenName = "taken.json"

// Taken tells that this box took another one's place.
type Taken struct {
	From string    `json:"from"` // its address
	At   time.Time `json:"at"`
	Code string    `json:"code"` // a hash of it: who repeats the command is told that it is done
}

// TakenBy reads whose place this box took with a code; ok is false where it did not.
func TakenBy(cfg config.Config, code transfer.Code) (t Taken, ok bool) {
	t, err := readTaken(cfg.DataDir)
	return t, err == nil && t.Code == codeSum(code.Key())
}

func codeSum(key []byte) string {
	sum := sha256.Sum256(append([]byte("pibox taken"), key...))
	return hex.EncodeToString(sum[:])
}

func readTaken(dir string) (t Taken, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, takenName))
	if err == nil {
		err = json.Unmarshal(raw, &t)
	}
	return t, err
}

func writeTaken(dir string, f fetched) error {
	raw, err := json.Marshal(Taken{From: f.Address, At: time.Now().UTC(), Code: codeSum(f.Key)})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, takenName), raw, 0o600)
}

// forgetTaken: something else has this box's place now.
func forgetTaken(dir string) error {
	if err := os.Remove(filepath.Join(dir, takenName)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// tookAlready tells whoever fetches a box over one that was fetched what that is.
func tookAlready(dir string, err error) error {
	var known *admin.Error
	t, none := readTaken(dir)
	if none != nil || !errors.As(err, &known) || known.Code != admin.CodeExists {
		return err
	}
	return admin.Errorf(admin.CodeExists, "this box took the place of the one at %s already, on %s", t.From, t.At.Local().Format(time.DateTime)).
		Then("Nothing is left to do but to start it. To fetch another box, with its own code: --replace keeps this one beside under another name.")
}
