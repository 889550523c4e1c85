package segment

// What TestFileSystemCalls expects. Paths are seen from the partition's directory.
const (
	callsOpenEmpty = `
stat ..
stat ../..
mkdir-all ..
sync-dir ../..
lock ../.lock
list ..
open ../meta.properties
open ../recovery-point-offset-checkpoint
open ../replication-offset-checkpoint
open ../log-start-offset-checkpoint
`
	callsCreate = `
list .
mkdir-all .
create 00000000000000000000.log
create partition.metadata.tmp
write partition.metadata.tmp 0+43
sync partition.metadata.tmp
rename partition.metadata
sync-dir .
sync-dir ..
`
	callsFirstAppend = `
open-read-write 00000000000000000000.log
write 00000000000000000000.log 0+72
sync 00000000000000000000.log
`
	callsAppend = `
write 00000000000000000000.log 72+72
sync 00000000000000000000.log
`
	callsRoll = `
stat 00000000000000000002.log
open-read-write 00000000000000000002.log
open-read-write 00000000000000000000.index
write 00000000000000000000.index 0+8
sync 00000000000000000000.index
open-read-write 00000000000000000000.timeindex
write 00000000000000000000.timeindex 0+12
sync 00000000000000000000.timeindex
create leader-epoch-checkpoint.tmp
write leader-epoch-checkpoint.tmp 0+8
sync leader-epoch-checkpoint.tmp
rename leader-epoch-checkpoint
sync-dir .
create 00000000000000000002.snapshot.tmp
write 00000000000000000002.snapshot.tmp 0+10
sync 00000000000000000002.snapshot.tmp
rename 00000000000000000002.snapshot
sync-dir .
create ../recovery-point-offset-checkpoint.tmp
write ../recovery-point-offset-checkpoint.tmp 0+15
sync ../recovery-point-offset-checkpoint.tmp
rename ../recovery-point-offset-checkpoint
sync-dir ..
`
	callsCheckpoint = `
create ../recovery-point-offset-checkpoint.tmp
write ../recovery-point-offset-checkpoint.tmp 0+15
sync ../recovery-point-offset-checkpoint.tmp
rename ../recovery-point-offset-checkpoint
sync-dir ..
create ../replication-offset-checkpoint.tmp
write ../replication-offset-checkpoint.tmp 0+15
sync ../replication-offset-checkpoint.tmp
rename ../replication-offset-checkpoint
sync-dir ..
`
	callsRemove = `
create ../log-start-offset-checkpoint.tmp
write ../log-start-offset-checkpoint.tmp 0+15
sync ../log-start-offset-checkpoint.tmp
rename ../log-start-offset-checkpoint
sync-dir ..
remove 00000000000000000000.log
sync-dir .
remove 00000000000000000000.index
remove 00000000000000000000.timeindex
remove 00000000000000000000.txnindex
remove 00000000000000000000.snapshot
`
	callsClose = `
create leader-epoch-checkpoint.tmp
write leader-epoch-checkpoint.tmp 0+8
sync leader-epoch-checkpoint.tmp
rename leader-epoch-checkpoint
sync-dir .
create 00000000000000000003.snapshot.tmp
write 00000000000000000003.snapshot.tmp 0+10
sync 00000000000000000003.snapshot.tmp
rename 00000000000000000003.snapshot
sync-dir .
create ../replication-offset-checkpoint.tmp
write ../replication-offset-checkpoint.tmp 0+15
sync ../replication-offset-checkpoint.tmp
rename ../replication-offset-checkpoint
sync-dir ..
create ../.kafka_cleanshutdown.tmp
write ../.kafka_cleanshutdown.tmp 0+30
sync ../.kafka_cleanshutdown.tmp
rename ../.kafka_cleanshutdown
sync-dir ..
`
	callsOpenClean = `
stat ..
lock ../.lock
list ..
open ../meta.properties
open ../recovery-point-offset-checkpoint
read ../recovery-point-offset-checkpoint 0+15
open ../replication-offset-checkpoint
read ../replication-offset-checkpoint 0+15
open ../log-start-offset-checkpoint
read ../log-start-offset-checkpoint 0+15
stat .
open partition.metadata
read partition.metadata 0+43
remove ../.kafka_cleanshutdown
sync-dir ..
`
	callsOpenLogClean = `
list .
open partition.metadata
read partition.metadata 0+43
stat 00000000000000000002.log
open leader-epoch-checkpoint
read leader-epoch-checkpoint 0+8
stat 00000000000000000002.index
stat 00000000000000000002.timeindex
open-read-write 00000000000000000002.log
read 00000000000000000002.log 0+61
read 00000000000000000002.log 0+72
open 00000000000000000002.txnindex
open 00000000000000000003.snapshot
read 00000000000000000003.snapshot 0+10
`
	callsCloseIdle = `
create ../.kafka_cleanshutdown.tmp
write ../.kafka_cleanshutdown.tmp 0+30
sync ../.kafka_cleanshutdown.tmp
rename ../.kafka_cleanshutdown
sync-dir ..
`
)
