package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
)

// settingLogKey names the setting that holds the key of the archive's ids, made once for each store.
const settingLogKey = "logkey"

// LogID is the id of an entry for one of its owners (XEP-0359 §3.2), of 22 characters: it tells nothing to who does not have the store's key,
// neither the order of two entries nor that two owners' ids are of one entry.
func LogID(tx *Tx, account string, seq uint64) string {
	c := tx.logCipher()
	if c == nil {
		return ""
	}
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint64(b[:], seq)
	copy(b[8:], accountHash(account))
	c.Encrypt(b[:], b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// ParseLogID is the sequence behind an id that LogID made for this account. The entry need not be there any more.
func ParseLogID(tx *Tx, account, id string) (seq uint64, ok bool) {
	c := tx.logCipher()
	if c == nil || strings.ContainsAny(id, "\r\n") { // which the decoder would skip
		return 0, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil || len(b) != aes.BlockSize {
		return 0, false
	}
	c.Decrypt(b, b)
	if subtle.ConstantTimeCompare(b[8:], accountHash(account)) == 0 {
		return 0, false
	}
	return binary.BigEndian.Uint64(b), true
}

func accountHash(account string) []byte {
	sum := sha256.Sum256([]byte(account))
	return sum[:8]
}

func (tx *Tx) logCipher() cipher.Block {
	if tx.ids != nil {
		return tx.ids
	}
	raw, ok := Settings.Get(tx, settingLogKey)
	var key []byte
	if ok {
		if err := json.Unmarshal(raw, &key); err != nil {
			tx.fail(fmt.Errorf("store: setting %s: %w", settingLogKey, err))
			return nil
		}
	}
	c, err := aes.NewCipher(key)
	if err != nil {
		tx.fail(fmt.Errorf("store: setting %s: %w", settingLogKey, err))
		return nil
	}
	tx.ids = c
	return c
}

// makeLogKey belongs to the migration to schema 2.
func makeLogKey(tx *Tx) {
	key := make([]byte, 16)
	_, _ = rand.Read(key) // never fails
	raw, _ := json.Marshal(key)
	Settings.Put(tx, settingLogKey, raw)
}
