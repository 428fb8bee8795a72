package powercut

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Toll is what a power cut did to what was not synced.
type Toll struct {
	How                 string // the lot that was drawn
	Writes, LostWrites  int    // writes and changes of size
	TornWrites          int    // of which something is there, and not all
	Names, LostNames    int    // changes of names
	Sectors, OldSectors int    // sectors that were written, and those where something older stands
}

func (t Toll) String() string {
	return fmt.Sprintf("%s: of %d writes %d lost, %d torn; of %d changes of names %d lost", t.How, t.Writes, t.LostWrites, t.TornWrites, t.Names, t.LostNames)
}

// lot decides what is kept.
type lot struct {
	rng  *rand.Rand
	name string
	keep float64 // how likely a sector, a size, a name is kept
	last int     // no change after this one is kept
	torn bool    // by sectors, else by whole writes
}

// draw draws how much is kept of the changes after seq, up to last.
func draw(rng *rand.Rand, last int, oldest int) lot {
	l := lot{rng: rng, last: last}
	switch rng.IntN(8) {
	case 0:
		l.name = "nothing is kept"
	case 1:
		l.name, l.keep = "all is kept", 1
	case 2:
		l.name, l.keep, l.last = "the beginning is kept", 1, oldest+rng.IntN(max(1, last-oldest+1))
	case 3:
		l.name, l.keep = "half of the writes are kept", 0.5
	case 4:
		l.name, l.keep, l.torn = "nearly all sectors are kept", 0.95, true
	case 5:
		l.name, l.keep, l.torn = "hardly a sector is kept", 0.05, true
	default:
		l.name, l.keep, l.torn = "some sectors are kept", rng.Float64(), true
	}
	return l
}

func (l lot) kept(seq int) bool { return seq <= l.last && l.rng.Float64() < l.keep }

// Survivor is the disk that is found after the power cut; this one is of no use any more.
func (d *Disk) Survivor(rng *rand.Rand) (*Disk, Toll) {
	d.Release()
	d.mu.Lock()
	defer d.mu.Unlock()
	l := draw(rng, d.seq, d.oldest())
	toll := Toll{How: l.name}
	names := map[uint64]map[string]uint64{}
	view := func(dir uint64) map[string]uint64 { // a copy: the durable names are ours no more
		if names[dir] == nil {
			names[dir] = map[string]uint64{}
			for name, ino := range d.inodes[dir].syncedNames {
				names[dir][name] = ino
			}
		}
		return names[dir]
	}
	for _, c := range d.renames {
		toll.Names++
		if l.kept(c.seq) {
			c.apply(view)
		} else {
			toll.LostNames++
		}
	}
	out := New()
	out.Latency, out.last = d.Latency, d.last
	d.take(out, Root, view, l, &toll)
	return out, toll
}

// oldest is the first change that is not durable.
func (d *Disk) oldest() int {
	oldest := d.seq
	for _, i := range d.inodes {
		if len(i.pending) > 0 {
			oldest = min(oldest, i.pending[0].seq)
		}
	}
	if len(d.renames) > 0 {
		oldest = min(oldest, d.renames[0].seq)
	}
	return oldest
}

// take copies what is reachable from a folder to the new disk. In the order of the numbers, for the lot.
func (d *Disk) take(out *Disk, dir uint64, names view, l lot, toll *Toll) {
	to := out.inodes[dir]
	all := names(dir)
	sorted := make([]string, 0, len(all))
	for name := range all {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	for _, name := range sorted {
		ino := all[name]
		old := d.inodes[ino]
		if out.inodes[ino] == nil {
			made := newInode(ino, old.mode)
			made.uid, made.gid, made.mtime = old.uid, old.gid, old.mtime
			out.inodes[ino] = made
			if old.isDir() {
				d.take(out, ino, names, l, toll)
			} else {
				made.data = old.survive(l, toll)
				made.synced = slices.Clone(made.data)
			}
		}
		to.place(name, ino)
	}
}

// survive is what is left of a file. Sizes and bytes are kept or lost apart from each other: bytes beyond the size that is kept are not seen.
func (i *inode) survive(l lot, toll *Toll) []byte {
	longest := len(i.synced)
	for _, c := range i.pending {
		longest = max(longest, int(c.at)+len(c.bytes))
	}
	out := make([]byte, longest)
	size := copy(out, i.synced)
	cached := slices.Clone(out) // as it was in memory: what of it was written is whole sectors
	for _, c := range i.pending {
		toll.Writes++
		if c.bytes != nil {
			copy(cached[c.at:], c.bytes)
			l.write(c, cached, out, toll)
			continue
		}
		clear(cached[c.at:])
		if !l.kept(c.seq) {
			toll.LostWrites++
			continue
		}
		clear(out[min(size, int(c.at)):])
		size = int(c.at)
	}
	return out[:size]
}

// write puts the sectors of a write that are kept from memory into what is left.
func (l lot) write(c bytesChange, cached, out []byte, toll *Toll) {
	whole := l.kept(c.seq)
	kept, first, last := 0, int(c.at)/Sector, (int(c.at)+len(c.bytes)-1)/Sector
	for sector := first; sector <= last; sector++ {
		from, to := sector*Sector, min((sector+1)*Sector, len(out))
		if l.torn && l.kept(c.seq) || !l.torn && whole {
			kept++
			copy(out[from:to], cached[from:to])
		}
	}
	sectors := last - first + 1
	toll.Sectors += sectors
	toll.OldSectors += sectors - kept
	switch {
	case kept == 0:
		toll.LostWrites++
	case kept < sectors:
		toll.TornWrites++
	}
}
