#!/bin/sh
# Compresses the card and says what it is: SHA-256, SBOM, and the manifest by which Raspberry Pi Imager offers it.
. "$(dirname "$0")/lib.sh"

need zstd zstd
GO=${GO:-go}
out=$top/dist/pibox-$arch.img
sum_of() { sha256sum "$1" | cut -d' ' -f1; }

# -T1: with several threads the bytes would depend on how many there are.
zstd -q -f -9 -T1 "$work/card.img" -o "$out.zst"
(cd "$top/dist" && sha256sum "$(basename "$out").zst" >"$(basename "$out").zst.sha256")
rm -f "$top"/dist/pibox-*.update
[ ! -e "$work/update" ] || cp "$work/update" "$top/dist/pibox-$version.update"

(cd "$top" && $GO run ./internal/tools/sbom -dpkg "$work/dpkg-status" -program "dist/pibox-linux-$arch" -version "$version" -created "$SOURCE_DATE_EPOCH") >"$out.spdx.json"

# init_format none: the image executes nothing that Imager would write (firstrun.sh, cloud-init), so that Imager must not ask for
# it. What a household sets stands in pibox.toml. Without the field Imager 1 would assume firstrun.sh.
cat >"$top/dist/pibox.rpi-imager-manifest" <<END
{
  "os_list": [
    {
      "name": "pibox $version",
      "description": "A chat server for the family. Settings: pibox.toml on the card",
      "icon": "",
      "url": "${IMAGE_URL:-$(basename "$out").zst}",
      "extract_size": $(stat -c %s "$work/card.img"),
      "extract_sha256": "$(sum_of "$work/card.img")",
      "image_download_size": $(stat -c %s "$out.zst"),
      "image_download_sha256": "$(sum_of "$out.zst")",
      "release_date": "$(date -u -d "@$SOURCE_DATE_EPOCH" +%F)",
      "init_format": "none",
      "devices": ["pi3-64bit", "pi4-64bit"],
      "architecture": "armv8"
    }
  ]
}
END
say "$(cd "$top/dist" && ls -s --block-size=1M "pibox-$arch.img.zst" | awk '{ print $2, $1, "MiB" }'), $((card_sectors / 2048)) MiB on the card"
