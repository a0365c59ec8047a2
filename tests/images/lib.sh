# shellcheck shell=bash disable=SC2034
# Sourced by the programs that build or run images here: may this machine do it, and how. No daemon, no registry; root and mounts are needed.
images_base=docker.io/library/debian:bookworm-slim
images_cache=$PWD/build/vendor/docker
# two checkouts on one machine share the store and do not look at each other's images
images_tag=test-$(printf %s "$PWD" | cksum | cut -d' ' -f1)
# what automake's tests say when they cannot run
images_skipped=77
export BUILDAH_ISOLATION=chroot

images_skip() {
	printf 'skipped: %s\n' "$*"
	exit $images_skipped
}
images_die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# images_enter PROGRAM ARGS...: returns where images can be built; runs PROGRAM again where they can once / is a mount point.
images_enter() {
	local probe jail status=0 tool program=$1
	[ "$(id -u)" = 0 ] || images_skip "images are built as root here"
	for tool in buildah debootstrap; do
		command -v $tool >/dev/null || images_die "$tool is missing (deploy/local/install-deps test)"
	done
	probe=$(mktemp -d)
	if ! mount -t tmpfs none "$probe" 2>/dev/null; then
		rmdir "$probe"
		images_skip "this machine lets us mount nothing, so neither debootstrap nor buildah can work"
	fi
	umount "$probe"
	rmdir "$probe"
	# buildah remounts /, which works where / is a mount point; in a plain chroot it is none, so go into one that is
	if [ -z "${CRM_IMAGES_INSIDE:-}" ] && ! mountpoint -q /; then
		shift
		jail=$(mktemp -d)
		mount -t tmpfs none "$jail"
		mount --make-private "$jail"
		mkdir "$jail/root"
		mount --rbind / "$jail/root"
		mount --make-rslave "$jail/root"
		# shellcheck disable=SC2016 # the inner shell's
		CRM_IMAGES_INSIDE=1 chroot "$jail/root" /bin/bash -c 'cd "$1" && shift && exec "$@"' inside "$PWD" "$program" "$@" || status=$?
		umount -l "$jail"
		rmdir "$jail"
		exit $status
	fi
	# overlay on overlay and some sandboxes refuse; copying files always works
	if [ -z "${STORAGE_DRIVER:-}" ] && ! buildah info >/dev/null 2>&1; then
		export STORAGE_DRIVER=vfs
	fi
}
