#!/bin/bash
# Rented containers (RunPod, Lambda and their like) are entered by ssh with the key that the provider names in PUBLIC_KEY.
# Everything else is the command as it was given.
set -e
if [ -n "${PUBLIC_KEY:-}" ]; then
  mkdir -p "$HOME/.ssh"
  printf '%s\n' "$PUBLIC_KEY" >> "$HOME/.ssh/authorized_keys"
  chmod 700 "$HOME/.ssh"
  chmod 600 "$HOME/.ssh/authorized_keys"
  sudo ssh-keygen -A > /dev/null # keys of this container's own: none is in the image
  sudo mkdir -p /run/sshd
  sudo /usr/sbin/sshd
fi
exec "$@"
