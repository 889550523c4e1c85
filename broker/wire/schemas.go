package wire

// schemas says how the body of each request is laid out, in the order of the wire: one line for all versions.
//
//	b h i l u   1, 2, 4, 8 and 16 bytes
//	s y         string, bytes; compact in flexible versions
//	[x]         array of x, or of structures if x is {…}
//	{…}         structure; in flexible versions tagged fields end it
//	#7:x        tagged field 7 of the structure it stands at the end of
//
// Behind any of them: ? for nullable, ?3 for nullable from version 3 on, then @3 for there from version 3 on, @3-5 for
// there in versions 3 to 5 and @-5 in versions up to 5.
//
// The source are Kafka's message definitions; guard_test.go checks each line against kmsg in every version.
var schemas = [...]struct {
	key    int16
	name   string
	fields string
}{
	{0, "Produce", "s?@3 h i [{s@-12 u@13 [{i y?}]}]"},
	{1, "Fetch", "i@-14 i i i@3 b@4 i@7 i@7 [{s@-12 u@13 [{i i@9 l i@12 l@5 i #0:u #1:l}]}] [{s@7-12 u@13 [i]}]@7 s@11 #0:s? #1:{i l}"},
	{2, "ListOffsets", "i b@2 [{s [{i i@4 l i@-0}]}] i@10"},
	{3, "Metadata", "[{u@10 s?10}]?1 b@4 b@8-10 b@8"},
	{8, "OffsetCommit", "s i@1 s@1 s?@7 l@2-4 [{s@-9 u@10 [{i l l@1-1 i@6 s?}]}]"},
	{9, "OffsetFetch", "s@-7 [{s [i]}]?2@-7 [{s s?@9 i@9 [{s@8-9 u@10 [i]}]?}]@8 b@7"},
	{10, "FindCoordinator", "s@-3 b@1 [s]@4"},
	{11, "JoinGroup", "s i i@1 s s?@5 s [{s y}] s?@8"},
	{12, "Heartbeat", "s i s s?@3"},
	{13, "LeaveGroup", "s s@-2 [{s s? s?@5}]@3"},
	{14, "SyncGroup", "s i s s?@3 s?@5 s?@5 [{s y}]"},
	{15, "DescribeGroups", "[s] b@3"},
	{16, "ListGroups", "[s]@4 [s]@5"},
	{17, "SASLHandshake", "s"},
	{18, "ApiVersions", "s@3 s@3 s?@5 i@5"},
	{19, "CreateTopics", "[{s i h [{i [i]}] [{s s?}]}] i b@1"},
	{20, "DeleteTopics", "[s]@-5 [{s? u}]@6 i"},
	{21, "DeleteRecords", "[{s [{i l}]}] i"},
	{22, "InitProducerID", "s? i l@3 h@3"},
	{23, "OffsetForLeaderEpoch", "i@3 [{s [{i i@2 i}]}]"},
	{24, "AddPartitionsToTxn", "s@-3 l@-3 h@-3 [{s [i]}]@-3 [{s l h b [{s [i]}]}]@4"},
	{25, "AddOffsetsToTxn", "s l h s"},
	{26, "EndTxn", "s l h b"},
	{27, "WriteTxnMarkers", "[{l h b [{s [i]}] i b@2}]"},
	{28, "TxnOffsetCommit", "s s l h i@3 s@3 s?@3 [{s@-5 u@6 [{i l i@2 s?}]}]"},
	{29, "DescribeACLs", "b s? b@1 s? s? b b"},
	{30, "CreateACLs", "[{b s b@1 s s b b}]"},
	{31, "DeleteACLs", "[{b s? b@1 s? s? b b}]"},
	{32, "DescribeConfigs", "[{b s [s]?}] b@1 b@3"},
	{33, "AlterConfigs", "[{b s [{s s?}]}] b"},
	{34, "AlterReplicaLogDirs", "[{s [{s [i]}]}]"},
	{35, "DescribeLogDirs", "[{s [i]}]?"},
	{36, "SASLAuthenticate", "y"},
	{37, "CreatePartitions", "[{s i [{[i]}]?}] i b"},
	{38, "CreateDelegationToken", "s?@3 s?@3 [{s s}] l"},
	{39, "RenewDelegationToken", "y l"},
	{40, "ExpireDelegationToken", "y l"},
	{41, "DescribeDelegationToken", "[{s s}]?"},
	{42, "DeleteGroups", "[s]"},
	{43, "ElectLeaders", "b@1 [{s [i]}]? i"},
	{44, "IncrementalAlterConfigs", "[{b s [{s b s?}]}] b"},
	{45, "AlterPartitionAssignments", "i b@1 [{s [{i [i]?}]}]"},
	{46, "ListPartitionReassignments", "i [{s [i]}]?"},
	{47, "OffsetDelete", "s [{s [{i}]}]"},
	{48, "DescribeClientQuotas", "[{s b s?}] b"},
	{49, "AlterClientQuotas", "[{[{s s?}] [{s l b}]}] b"},
	{50, "DescribeUserSCRAMCredentials", "[{s}]?"},
	{51, "AlterUserSCRAMCredentials", "[{s b}] [{s b i y y}]"},
	{55, "DescribeQuorum", "[{s [{i}]}]"},
	{57, "UpdateFeatures", "i [{s h b@-0 b@1}] b@1"},
	{60, "DescribeCluster", "b b@1 b@2"},
	{61, "DescribeProducers", "[{s [i]}]"},
	{64, "UnregisterBroker", "i"},
	{65, "DescribeTransactions", "[s]"},
	{66, "ListTransactions", "[s] [l] l@1 s?@2"},
	{68, "ConsumerGroupHeartbeat", "s s i s? s? i [s]? s?@1 s? [{u [i]}]?"},
	{69, "ConsumerGroupDescribe", "[s] b"},
	{71, "GetTelemetrySubscriptions", "u"},
	{72, "PushTelemetry", "u i b b y"},
	{74, "ListConfigResources", "[b]@1"},
	{75, "DescribeTopicPartitions", "[{s}] i {s i}?"},
	{76, "ShareGroupHeartbeat", "s s i s? [s]?"},
	{77, "ShareGroupDescribe", "[s] b"},
	{78, "ShareFetch", "s? s? i i i i i@1 i@1 b@2 b@2 [{u [{i i@-0 [{l l [b]}]}]}] [{u [i]}]"},
	{79, "ShareAcknowledge", "s? s? i b@2 [{u [{i [{l l [b]}]}]}]"},
	{83, "InitializeShareGroupState", "s [{u [{i i l}]}]"},
	{84, "ReadShareGroupState", "s [{u [{i i}]}]"},
	{85, "WriteShareGroupState", "s [{u [{i i i l i@1 [{l l b h}]}]}]"},
	{86, "DeleteShareGroupState", "s [{u [{i}]}]"},
	{87, "ReadShareGroupStateSummary", "s [{u [{i i}]}]"},
	{88, "StreamsGroupHeartbeat", "s s i i s? s? i {i [{s [s] [s] [{s i h [{s s}]}] [s] [{s i h [{s s}]}] [{[h] [h] [h]}]}]}? [{s [i]}]? [{s [i]}]? [{s [i]}]? s? {s h}? [{s s}]? [{s i l}]? [{s i l}]? b"},
	{89, "StreamsGroupDescribe", "[s] b b@1"},
	{90, "DescribeShareGroupOffsets", "[{s [{s [i]}]?}]"},
	{91, "AlterShareGroupOffsets", "s [{s [{i l}]}]"},
	{92, "DeleteShareGroupOffsets", "s [{s}]"},
}
