# Read by setup.sh and tree.sh. The mirror is that of this machine's apt; none is named here.
# shellcheck shell=sh

mirror_of() { # LABEL: of an archive, as its Release file has it
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Label: $1" | head -n 1
}

mirror() { # prints the URI of Debian's archive
	found=$(mirror_of Debian)
	if [ -z "$found" ]; then # a machine whose apt has not asked yet does not know labels
		apt-get -qq update
		found=$(mirror_of Debian)
	fi
	[ -n "$found" ] || { echo 'ansible-test: apt names no mirror of Debian' >&2; return 1; }
	echo "$found"
}
