#!/bin/sh
# Makes a virtual environment of Python in the folder $1 with what the file $2 names. Quick when it is there.
set -eu

folder=$1 requirements=$2
if cmp -s "$requirements" "$folder/installed.txt"; then
	exit 0
fi
echo "ansible: installing $requirements into $folder"
rm -rf "$folder"
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
cp "$requirements" "$folder/installed.txt"
