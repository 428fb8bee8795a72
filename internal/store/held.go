package store

import "encoding/json"

const settingHeld = "held"

// Held tells whether the box was restored from a backup and its owner has not said yet that the one it was taken from is gone: until then it
// moves nobody and sends nothing of the Moved outbox, because that one may do so, too.
func Held(tx *Tx) bool { return Settings.Has(tx, settingHeld) }

// SetHeld begins or ends that.
func SetHeld(tx *Tx, held bool) {
	if held {
		Settings.Put(tx, settingHeld, json.RawMessage("true"))
		return
	}
	Settings.Delete(tx, settingHeld)
}
