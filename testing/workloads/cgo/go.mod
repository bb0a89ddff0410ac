module hotframe/workloads/gocalls

go 1.20
