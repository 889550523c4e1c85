#!/bin/bash
# Makes a machine of this host's programs: it runs as the first process of its
# namespaces, and when it ends, everything on the machine does.
#   machine.sh NAME ROOT LOCAL MACHINES: the host's name, its root directory, its
#   /usr/local, and where the roots of all machines are, for rsync.
set -eu
name=$1 root=$2 local=$3 machines=$4
mount --make-rprivate /
hostname "$name"
mkdir -p "$root"/{usr,proc,sys,dev,tmp,run,root,machines,etc,var/lib,var/log}
for d in bin sbin lib lib64; do
	if [ -L /$d ]; then
		ln -sfn "$(readlink /$d)" "$root/$d"
	elif [ -d /$d ]; then
		mkdir -p "$root/$d"
		mount --bind /$d "$root/$d"
	fi
done
mount --bind /usr "$root/usr"
mount --bind "$local" "$root/usr/local"
mount --bind "$machines" "$root/machines"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
for f in passwd group ld.so.cache ssl/openssl.cnf alternatives; do
	[ ! -e /etc/$f ] || { mkdir -p "$(dirname "$root/etc/$f")" && cp -a "/etc/$f" "$root/etc/$f"; }
done
echo "hosts: files" > "$root/etc/nsswitch.conf"
mkdir -p "$root/etc/systemd/system" "$root/etc/default"
echo up
trap : TERM INT
while :; do sleep 1000 & wait $! || :; done
